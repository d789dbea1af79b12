"""A real S3 server of moto's that checks signatures, as its own process on loopback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.helpers.key_servers import MACHINE

BUCKET = "boot-keys"
OBJECT = f"release keys/{MACHINE}/imxsign/imx-cst-keys.tar.gz"
# What the server does before it checks signatures: make a user with a key and a policy, a bucket, and an object.
SETUP = """
import sys
import botocore.session
url, bucket, name, path = sys.argv[1:]
session = botocore.session.Session()
session.set_credentials("setup", "setup")
def client(service, access="setup", secret="setup"):
    return session.create_client(service, region_name="eu-central-1", endpoint_url=url, verify=False,
                                 aws_access_key_id=access, aws_secret_access_key=secret)
iam = client("iam")
iam.create_user(UserName="digsigd")
policy = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'
iam.put_user_policy(UserName="digsigd", PolicyName="all", PolicyDocument=policy)
key = iam.create_access_key(UserName="digsigd")["AccessKey"]
s3 = client("s3", key["AccessKeyId"], key["SecretAccessKey"])
s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
s3.put_object(Bucket=bucket, Key=name, Body=open(path, "rb").read())
print(key["AccessKeyId"], key["SecretAccessKey"])
"""


class Store:
    """The server, and the credentials that it knows."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "moto.log"
        # These calls of the set-up need no right yet.
        environ = {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": "3", "PYTHONWARNINGS": "ignore"}
        with self._log.open("wb") as log:
            server = Path(sys.executable).with_name("moto_server")
            self._process = subprocess.Popen(
                [server, "-H", "127.0.0.1", "-p", "0"], env=environ, stdout=log, stderr=log, cwd=folder
            )
        self.url = self._wait_for_address()
        self.key_id, self.secret = "", ""

    @property
    def pid(self) -> int:
        return self._process.pid

    def _wait_for_address(self) -> str:
        while self._process.poll() is None:
            # With what follows: of a line that is still being written, the port may be cut.
            if found := re.search(r"Running on (http://127\.0\.0\.1:\d+)\D", self._log.read_text()):
                return found[1]
            time.sleep(0.05)
        raise AssertionError(f"moto did not start: {self._log.read_text()}")

    def set_up(self, tarball: Path) -> None:
        done = subprocess.run(
            [sys.executable, "-c", SETUP, self.url, BUCKET, OBJECT, tarball],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        self.key_id, self.secret = done.stdout.split()

    def put(self, tarball: bytes, machine: str = MACHINE) -> None:
        """Another tarball under the same name, or that of another machine."""
        import botocore.session

        session = botocore.session.Session()
        client = session.create_client(
            "s3",
            region_name="eu-central-1",
            endpoint_url=self.url,
            aws_access_key_id=self.key_id,
            aws_secret_access_key=self.secret,
        )
        client.put_object(Bucket=BUCKET, Key=OBJECT.replace(MACHINE, machine), Body=tarball)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()

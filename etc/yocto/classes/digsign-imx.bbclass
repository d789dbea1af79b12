# Signs images of the i.MX 8M family (HAB4), and of i.MX 8, 8X, 8ULP, 91 and 93 (AHAB), on a signing host, with
# `digsign`.
#
# A recipe that inherits this class lists the images that do_compile makes in DIGSIGN_IMAGES. do_digsign signs them in
# place, so that do_install and do_deploy take the signed files. `digsign` writes a file only after it has verified the
# result by the rules of the boot ROM, SPL and U-Boot; a failure ends the build and leaves the file unchanged.
#
# No variable holds a secret: `digsign` reads the token from a file.

# The command: a path, or a name in HOSTTOOLS.
DIGSIGN ??= "digsign"
# "1" signs; any other value leaves the images unsigned.
DIGSIGN_ENABLE ??= "1"
# Files, separated by spaces; * and ? are wildcards of the shell.
DIGSIGN_IMAGES ??= ""

# The signing host and its credentials. Settings that are empty here can be in digsign.toml.
DIGSIGN_SERVER ??= ""
DIGSIGN_TOKEN_FILE ??= ""
DIGSIGN_CA_FILE ??= ""
DIGSIGN_CLIENT_CERT ??= ""
DIGSIGN_CLIENT_KEY ??= ""
DIGSIGN_CONFIG ??= ""

# Which keys sign, with which cst and backend.
DIGSIGN_MACHINE ??= "${MACHINE}"
DIGSIGN_CST ??= ""
DIGSIGN_BACKEND ??= ""
DIGSIGN_SRK ??= "1"
DIGSIGN_FAST_AUTH ??= "0"
# "1" signs AHAB containers with the SGK below the SRK.
DIGSIGN_SGK ??= "0"
# The fuse value of the boards, as printed by `digsign fuses`. Keys with another fuse value are refused.
DIGSIGN_FUSES ??= ""
# The load address of a kernel.
DIGSIGN_LOAD_ADDRESS ??= ""
# The chip, as `digsign --soc` names it: images with AHAB containers do not say which chip they are for.
DIGSIGN_SOC ??= ""

# Signs one file in place.
digsign_sign() {
    if [ ! -f "$1" ]; then
        bbfatal "$1 not found; check this recipe's DIGSIGN_IMAGES = \"${DIGSIGN_IMAGES}\""
    fi
    set -- sign "$1" --output "$1" --machine "${DIGSIGN_MACHINE}" --srk "${DIGSIGN_SRK}"
    [ "${DIGSIGN_FAST_AUTH}" != "1" ] || set -- "$@" --fast-auth
    [ "${DIGSIGN_SGK}" != "1" ] || set -- "$@" --sgk
    [ -z "${DIGSIGN_CST}" ] || set -- "$@" --cst "${DIGSIGN_CST}"
    [ -z "${DIGSIGN_BACKEND}" ] || set -- "$@" --backend "${DIGSIGN_BACKEND}"
    [ -z "${DIGSIGN_FUSES}" ] || set -- "$@" --fuses "${DIGSIGN_FUSES}"
    [ -z "${DIGSIGN_SOC}" ] || set -- "$@" --soc "${DIGSIGN_SOC}"
    [ -z "${DIGSIGN_LOAD_ADDRESS}" ] || set -- "$@" --load-address "${DIGSIGN_LOAD_ADDRESS}"
    [ -z "${DIGSIGN_SERVER}" ] || set -- "$@" --server "${DIGSIGN_SERVER}"
    [ -z "${DIGSIGN_TOKEN_FILE}" ] || set -- "$@" --token-file "${DIGSIGN_TOKEN_FILE}"
    [ -z "${DIGSIGN_CA_FILE}" ] || set -- "$@" --ca-file "${DIGSIGN_CA_FILE}"
    [ -z "${DIGSIGN_CLIENT_CERT}" ] || set -- "$@" --client-cert "${DIGSIGN_CLIENT_CERT}"
    [ -z "${DIGSIGN_CLIENT_KEY}" ] || set -- "$@" --client-key "${DIGSIGN_CLIENT_KEY}"
    [ -z "${DIGSIGN_CONFIG}" ] || set -- "$@" --config "${DIGSIGN_CONFIG}"
    bbnote "digsign $*"
    # Recipes set these for the Python of the build, which is not digsign's.
    env -u PYTHONHOME -u PYTHONPATH -u _PYTHON_SYSCONFIGDATA_NAME -u LD_LIBRARY_PATH "${DIGSIGN}" "$@" || \
        bbfatal "$2 was not signed and is unchanged; the reason is above"
}

do_digsign() {
    if [ "${DIGSIGN_ENABLE}" != "1" ]; then
        bbnote "nothing is signed: DIGSIGN_ENABLE is \"${DIGSIGN_ENABLE}\", not \"1\""
        return 0
    fi
    for image in ${DIGSIGN_IMAGES}; do
        digsign_sign "$image"
    done
}
# Since Yocto 4.0, tasks have no network unless they ask for it.
do_digsign[network] = "1"
do_digsign[dirs] = "${B}"
do_digsign[doc] = "Signs the images of this recipe on a signing host"
addtask digsign after do_compile before do_install do_deploy

# The host's address and credentials do not change an image, so they do not cause it to be signed again.
digsign_sign[vardepsexclude] += " \
    DIGSIGN DIGSIGN_SERVER DIGSIGN_TOKEN_FILE DIGSIGN_CA_FILE DIGSIGN_CLIENT_CERT DIGSIGN_CLIENT_KEY DIGSIGN_CONFIG \
"

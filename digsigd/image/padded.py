"""An image that U-Boot lets HAB check before it starts it: padded to 4 KiB, then an IVT, then a CSF.

Sources: uboot-imx, arch/arm/mach-imx/hab.c (authenticate_image, validate_ivt), doc/imx/habv4/guides/
mx6_mx7_secure_boot.txt, 3, and mx8m_secure_boot.txt, 3; meta-digi, trustfence-sign-artifact-nxp.sh.
"""

from __future__ import annotations

from digsigd.hab import Block, Ivt
from digsigd.hab.ivt import IVT_SIZE, looks_like_ivt
from digsigd.image.errors import ImageError
from digsigd.image.fit_plan import ivt_bytes, read_plain_ivt
from digsigd.image.model import Patch, Signing
from digsigd.image.regions import RegionMap, aligned
from digsigd.image.spl import CSF_SIZE

_ALIGN = 0x1000
_LIMIT = 1 << 32


def plan_padded(regions: RegionMap, name: str, size: int, load_address: int | None, addresses: str) -> Signing:
    """Return the signing of an image of `size` bytes; `addresses` are the usual load addresses, for the hint.

    Raises `ImageError`.
    """
    data, place = regions.data, aligned(size, _ALIGN)
    ivt = _ivt(regions, name, size, place, load_address, addresses)
    base, csf = ivt.self_address - place, place + IVT_SIZE
    signing = Signing(name, ivt, (Block(base, 0, csf),), csf, CSF_SIZE - IVT_SIZE)
    used = min(len(data), place)
    regions.add(0, used, name)
    regions.add(used, place - used, f"padding to the {name}'s size")
    regions.add(place, IVT_SIZE, f"IVT of the {name}")
    regions.add_room(csf, signing.csf_room, f"room for the CSF of the {name}")
    regions.must.append((0, csf))
    return signing


def _ivt(regions: RegionMap, name: str, size: int, place: int, load_address: int | None, addresses: str) -> Ivt:
    data = regions.data
    if len(data) > place:
        if not looks_like_ivt(data[place : place + IVT_SIZE]):
            raise ImageError(
                f"the {name} has {size:#x} bytes according to its header, the file {len(data):#x}, but at {place:#x} is"
                f" {data[place : place + 8].hex(' ')} instead of an IVT",
                hint=f"Sign the {name} from its build, with nothing appended: U-Boot expects the IVT there.",
            )
        ivt = read_plain_ivt(data, place)
        base = ivt.self_address - place
        # The entry point can be anywhere in the image: Digi's scripts put it 0x100 after the start.
        inside = base <= ivt.entry < ivt.self_address and base >= 0
        if not inside or (load_address is not None and load_address != base):
            wanted = f", but the load address {load_address:#x} was given" if load_address is not None else ""
            raise ImageError(
                f"the IVT at {place:#x} is for {ivt.self_address:#x}, which puts the {name} at {base:#x}, with the"
                f" entry point {ivt.entry:#x}{wanted}",
                hint=f"Sign the {name} from its build, unchanged, and pass its load address.",
            )
        return ivt
    if load_address is None:
        raise ImageError(
            f"a {name} does not contain the address where U-Boot loads it",
            hint=f"Pass the load address: it is in U-Boot's environment, usually as loadaddr ({addresses}).",
        )
    if load_address % _ALIGN or load_address < 0 or load_address + place + CSF_SIZE > _LIMIT:
        raise ImageError(
            f"the load address {load_address:#x} is not a 32-bit address on a multiple of 4 KiB",
            hint="Check the load address.",
        )
    address = load_address + place
    ivt = Ivt(place, load_address, 0, 0, address, address + IVT_SIZE)
    if place > len(data):
        pad = f"the {name} is padded to the size in its header, for its IVT"
        regions.patches.append(Patch(len(data), bytes(place - len(data)), pad))
    regions.patches.append(Patch(place, ivt_bytes(ivt), f"the IVT, for the load address {load_address:#x}"))
    return ivt

# flash.bin of imx-mkimage, one for each of UBOOT_CONFIG and IMXBOOT_TARGETS. do_compile copies them to ${S} with the
# names that do_install and do_deploy use.
inherit digsign-imx

DIGSIGN_BOOT ??= "1"
DIGSIGN_ENABLE = "0"
DIGSIGN_ENABLE:mx8m-generic-bsp = "${DIGSIGN_BOOT}"

# AHAB: every container of the owner in the file. For i.MX 94 and 95, whose containers differ between silicon, set both
# variables for the machine.
DIGSIGN_ENABLE:mx8qm-generic-bsp = "${DIGSIGN_BOOT}"
DIGSIGN_ENABLE:mx8x-generic-bsp = "${DIGSIGN_BOOT}"
DIGSIGN_ENABLE:mx8ulp-generic-bsp = "${DIGSIGN_BOOT}"
DIGSIGN_ENABLE:mx91-generic-bsp = "${DIGSIGN_BOOT}"
DIGSIGN_ENABLE:mx93-generic-bsp = "${DIGSIGN_BOOT}"
DIGSIGN_SOC:mx8qm-generic-bsp ?= "mx8"
DIGSIGN_SOC:mx8x-generic-bsp ?= "mx8x"
DIGSIGN_SOC:mx8dxl-generic-bsp ?= "mx8dxl"
DIGSIGN_SOC:mx8ulp-generic-bsp ?= "mx8ulp"
DIGSIGN_SOC:mx91-generic-bsp ?= "mx91"
DIGSIGN_SOC:mx93-generic-bsp ?= "mx93"
DIGSIGN_IMAGES ?= "${S}/imx-boot*-${MACHINE}-*.bin-*"

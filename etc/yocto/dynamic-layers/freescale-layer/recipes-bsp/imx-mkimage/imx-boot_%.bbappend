# flash.bin of imx-mkimage, one for each of UBOOT_CONFIG and IMXBOOT_TARGETS. do_compile copies them to ${S} with the
# names that do_install and do_deploy use.
inherit digsign-imx

DIGSIGN_BOOT ??= "1"
# The other chips that use imx-boot have AHAB, not HAB4.
DIGSIGN_ENABLE = "0"
DIGSIGN_ENABLE:mx8m-generic-bsp = "${DIGSIGN_BOOT}"
DIGSIGN_IMAGES ?= "${S}/imx-boot*-${MACHINE}-*.bin-*"

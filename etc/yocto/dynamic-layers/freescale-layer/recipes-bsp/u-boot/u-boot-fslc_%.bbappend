# flash.bin of U-Boot's binman, for machines that use it instead of imx-boot (class imx-boot-container).
inherit digsign-imx

DIGSIGN_BOOT ??= "1"
DIGSIGN_ENABLE = "0"
DIGSIGN_ENABLE:imx-boot-container = "${DIGSIGN_BOOT}"
DIGSIGN_IMAGES ?= "${B}/*/flash.bin"

# Signs images of the i.MX 8M family (HAB4) by a signing host, with `digsign`.
#
# A recipe that inherits this says in DIGSIGN_IMAGES which files do_compile makes. do_digsign signs them where they are,
# so that whatever do_install and do_deploy take is signed. `digsign` writes a file only when it has proven the result
# as the boot ROM, SPL and U-Boot would; a failure ends the build and leaves the file as it was.
#
# No secret is in any variable: the token is read from a file by `digsign`.

# The command: a path, or a name that HOSTTOOLS has.
DIGSIGN ??= "digsign"
# "1" signs; anything else leaves the images as they are.
DIGSIGN_ENABLE ??= "1"
# Files, separated by spaces; * and ? are the shell's.
DIGSIGN_IMAGES ??= ""

# The signing host and what it needs; what is not set here, digsign.toml may have.
DIGSIGN_SERVER ??= ""
DIGSIGN_TOKEN_FILE ??= ""
DIGSIGN_CA_FILE ??= ""
DIGSIGN_CLIENT_CERT ??= ""
DIGSIGN_CLIENT_KEY ??= ""
DIGSIGN_CONFIG ??= ""

# Which keys sign, and by what.
DIGSIGN_MACHINE ??= "${MACHINE}"
DIGSIGN_CST ??= ""
DIGSIGN_BACKEND ??= ""
DIGSIGN_SRK ??= "1"
DIGSIGN_FAST_AUTH ??= "0"
# The fuse value of the boards, as `digsign fuses` shows it: nothing is signed with keys of other fuses.
DIGSIGN_FUSES ??= ""
# Where a kernel is loaded.
DIGSIGN_LOAD_ADDRESS ??= ""

# Signs one file where it is.
digsign_sign() {
    if [ ! -f "$1" ]; then
        bbfatal "there is no $1 to sign; the images of this recipe are DIGSIGN_IMAGES = \"${DIGSIGN_IMAGES}\""
    fi
    set -- sign "$1" --output "$1" --machine "${DIGSIGN_MACHINE}" --srk "${DIGSIGN_SRK}"
    [ "${DIGSIGN_FAST_AUTH}" != "1" ] || set -- "$@" --fast-auth
    [ -z "${DIGSIGN_CST}" ] || set -- "$@" --cst "${DIGSIGN_CST}"
    [ -z "${DIGSIGN_BACKEND}" ] || set -- "$@" --backend "${DIGSIGN_BACKEND}"
    [ -z "${DIGSIGN_FUSES}" ] || set -- "$@" --fuses "${DIGSIGN_FUSES}"
    [ -z "${DIGSIGN_LOAD_ADDRESS}" ] || set -- "$@" --load-address "${DIGSIGN_LOAD_ADDRESS}"
    [ -z "${DIGSIGN_SERVER}" ] || set -- "$@" --server "${DIGSIGN_SERVER}"
    [ -z "${DIGSIGN_TOKEN_FILE}" ] || set -- "$@" --token-file "${DIGSIGN_TOKEN_FILE}"
    [ -z "${DIGSIGN_CA_FILE}" ] || set -- "$@" --ca-file "${DIGSIGN_CA_FILE}"
    [ -z "${DIGSIGN_CLIENT_CERT}" ] || set -- "$@" --client-cert "${DIGSIGN_CLIENT_CERT}"
    [ -z "${DIGSIGN_CLIENT_KEY}" ] || set -- "$@" --client-key "${DIGSIGN_CLIENT_KEY}"
    [ -z "${DIGSIGN_CONFIG}" ] || set -- "$@" --config "${DIGSIGN_CONFIG}"
    bbnote "digsign $*"
    # Recipes set these for the Python that they build with, which is not digsign's.
    env -u PYTHONHOME -u PYTHONPATH -u _PYTHON_SYSCONFIGDATA_NAME -u LD_LIBRARY_PATH "${DIGSIGN}" "$@" || \
        bbfatal "$2 was not signed, and is as it was; the reason is above"
}

do_digsign() {
    if [ "${DIGSIGN_ENABLE}" != "1" ]; then
        bbnote "nothing is signed: DIGSIGN_ENABLE is \"${DIGSIGN_ENABLE}\""
        return 0
    fi
    for image in ${DIGSIGN_IMAGES}; do
        digsign_sign "$image"
    done
}
# Tasks have no network of their own since Yocto 4.0.
do_digsign[network] = "1"
do_digsign[dirs] = "${B}"
do_digsign[doc] = "Signs the images of this recipe by a signing host"
addtask digsign after do_compile before do_install do_deploy

# Where the host is, and how one is known there, changes no image: what is signed already need not be signed again.
digsign_sign[vardepsexclude] += " \
    DIGSIGN DIGSIGN_SERVER DIGSIGN_TOKEN_FILE DIGSIGN_CA_FILE DIGSIGN_CLIENT_CERT DIGSIGN_CLIENT_KEY DIGSIGN_CONFIG \
"

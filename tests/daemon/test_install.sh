#!/bin/sh
# SPDX-License-Identifier: MIT
#
# usage: test_install.sh BUILD PREFIX
#
# What `meson install` puts down: units that systemd-analyze takes without a word, an activation
# file whose Exec exists, the interfaces, the default model with its hash, a daemon that does not link
# libcurl, and lfm-ask with its entries where desktops and file managers look for them. And that
# uninstalling leaves nothing of it.
set -eu
build=$1 prefix=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

fail() {
    echo "$*" >&2
    exit 1
}

DESTDIR=$folder meson install -C "$build" --no-rebuild --quiet >"$folder/log" 2>&1 || {
    cat "$folder/log" >&2
    fail "meson install failed."
}
root=$folder$prefix
unit=$root/lib/systemd/user/lfmd.service
[ -f "$unit" ] || fail "$unit is absent."
for interface in org.lfmd.Assistant1 org.freedesktop.Speech.Provider; do
    [ -f "$root/share/dbus-1/interfaces/$interface.xml" ] || fail "$interface.xml is absent."
done

for name in org.lfmd.Speech.Provider org.lfmd.Assistant1; do
    activation=$root/share/dbus-1/services/$name.service
    program=$(sed -n 's/^Exec=//p' "$activation")
    [ -x "$folder$program" ] || fail "Exec of $activation is $program, which was not installed."
    grep -qx "Name=$name" "$activation" || fail "$activation is for another name."
    grep -qx 'SystemdService=lfmd.service' "$activation" || fail "No SystemdService in $activation."
done
[ -x "$folder$(sed -n 's/^Environment=LFMD_FETCH=//p' "$unit")" ] ||
    fail "The program of LFMD_FETCH was not installed."
if ldd "$folder$program" | grep -q libcurl; then
    fail "The daemon links libcurl."
fi

(cd "$root/share/lfmd/models" && sha256sum --quiet --check ./*.sha256) ||
    fail "The default model does not have the hash beside it."

if [ -x "$build/clients/ask-window/lfm-ask" ]; then
    for file in bin/lfm-ask share/applications/org.lfmd.Ask.desktop \
        share/icons/hicolor/scalable/apps/org.lfmd.Ask.svg share/metainfo/org.lfmd.Ask.metainfo.xml \
        share/nautilus-python/extensions/lfm-ask.py share/caja-python/extensions/lfm-ask.py \
        share/nemo/actions/lfm-ask.nemo_action share/Thunar/sendto/lfm-ask.desktop \
        share/kio/servicemenus/lfm-ask.desktop; do
        [ -f "$root/$file" ] || fail "$file was not installed."
    done
    [ -x "$root/share/kio/servicemenus/lfm-ask.desktop" ] || fail "Dolphin will not trust its menu."
fi

if [ -x "$build/clients/describe/lfm-describe" ]; then
    for file in bin/lfm-describe share/applications/org.lfmd.Describe.desktop \
        share/icons/hicolor/scalable/apps/org.lfmd.Describe.svg \
        share/metainfo/org.lfmd.Describe.metainfo.xml; do
        [ -f "$root/$file" ] || fail "$file was not installed."
    done
fi

if [ -x "$build/clients/wyoming/lfm-wyoming" ]; then
    for file in bin/lfm-wyoming lib/systemd/user/lfm-wyoming.service share/lfmd/home-assistant.json; do
        [ -f "$root/$file" ] || fail "$file was not installed."
    done
    grep -qx "ExecStart=$prefix/bin/lfm-wyoming" "$root/lib/systemd/user/lfm-wyoming.service" ||
        fail "No ExecStart of ours in lfm-wyoming.service."
    find "$folder" -path "*.wants/lfm-wyoming*" | grep -q . && fail "lfm-wyoming.service is enabled."
fi

# What `ninja uninstall` runs; ninja itself is at work around this test.
uninstall() {
    (cd "$build" && meson --internal uninstall) >"$folder/log" 2>&1 || fail "Uninstalling failed."
    [ ! -d "$root" ] || fail "Uninstalling left something: $(find "$root" ! -type d)"
}

command -v systemd-analyze >/dev/null || {
    uninstall
    echo "systemd-analyze is not installed."
    exit 77
}
# The unit names the installed place; what is checked lies below the scratch folder.
mkdir -p "$folder/run" "$folder/verify"
sed "s|$prefix|$root|g" "$unit" >"$folder/verify/lfmd.service"
said=$(XDG_RUNTIME_DIR=$folder/run systemd-analyze --user --man=no verify \
    "$folder/verify/lfmd.service" 2>&1) || fail "systemd-analyze: $said"
# Masked or absent units of this machine are not ours.
said=$(printf '%s' "$said" | grep lfmd || :)
[ -z "$said" ] || fail "systemd-analyze: $said"

uninstall

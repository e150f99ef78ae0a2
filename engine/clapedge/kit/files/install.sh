#!/bin/sh
# Install, check, roll back or remove clapedge on this machine, from this kit alone and without a network.
#
# Each kit gets a directory of its own below PREFIX/versions; PREFIX/current is a symlink to the one that runs. A kit is
# installed and tested beside the old version, and then the symlink is replaced in one step: whatever happens before
# leaves the old version as it was.
set -eu
umask 022

usage() {
    cat <<'EOF'
usage: ./install.sh [--prefix DIR] [--python FILE] [--service] [--no-selftest]
       ./install.sh --verify
       PREFIX/current/install.sh --selftest | --labels FILE | --rollback | --uninstall

  --prefix DIR    where to install [default: /opt/clapedge]
  --python FILE   the Python to use [default: the version that the kit is made for, then python3]
  --service       also install and start the systemd unit clapedge-listen; needs root
  --no-selftest   do not score the packed clips before the new version is used
  --verify        only compare every file of the kit with SHA256SUMS
  --selftest      score the packed clips again
  --labels FILE   copy a label set to PREFIX/labels, once it is known to fit, and restart the unit; upgrades keep it
  --rollback      go back to the version before
  --uninstall     remove every version and the unit; settings in /etc/clapedge and recorded sounds stay
EOF
}

say() { printf '%s\n' "$*" >&2; }

refuse() {
    say "error: $*"
    refused=yes
    exit 1
}

# whatever ends this script, it says so, and leaves no half of a version
finish() {
    status=$?
    trap - EXIT
    if [ -n "$unfinished" ]; then
        rm -rf "$unfinished" || true
    fi
    [ "$status" = 0 ] || [ -n "$refused" ] || say "error: a command failed, see above; what ran before runs still"
    exit "$status"
}

# every file is as it was when the kit was made, and there is no other
verify() {
    compare_files || {
        refused=yes # which the subshell said
        exit 1
    }
}

compare_files() (
    cd "$here"
    [ -f SHA256SUMS ] || refuse "$here has no SHA256SUMS, so it is no whole kit; unpack the archive again"
    if ! found=$(LC_ALL=C sha256sum -c SHA256SUMS 2>&1); then
        printf '%s\n' "$found" | grep -v ': OK$' >&2 || true
        refuse "a file of the kit is not the one that was packed; copy the archive again, and compare its SHA-256"
    fi
    listed=$(sed 's/^[0-9a-f]\{64\}  //' SHA256SUMS | LC_ALL=C sort)
    present=$(find . ! -type d ! -path ./SHA256SUMS | sed 's,^\./,,' | LC_ALL=C sort)
    [ -z "$(find . ! -type d ! -type f)" ] || refuse "the kit holds links, which none is packed with; unpack the archive again"
    [ "$listed" = "$present" ] || refuse "the kit holds files that were not packed; unpack the archive again"
)

# prints one field of kit.json
fact() {
    "$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$here/kit.json" "$1"
}

# sets $python, and refuses a machine that the wheels do not fit
choose_python() {
    wanted=$(sed -n 's/^ *"python": "\(.*\)",*$/\1/p' "$here/kit.json")
    if [ -z "$python" ]; then
        python=$(command -v "python$wanted" || command -v python3) ||
            refuse "there is no Python here; install Python $wanted (Debian, Ubuntu: python3), or name one with --python"
    fi
    has=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || refuse "$python does not run; name another with --python"
    [ "$has" = "$wanted" ] ||
        refuse "$python is Python $has and this kit is made for $wanted; name one with --python, or make a kit with --python $has"
    machine=$(uname -m)
    [ "$machine" = "$(fact machine)" ] || refuse "this machine is $machine and the kit is made for $(fact machine); make one for it"
    "$python" -c '
import platform, sys
name, version = platform.libc_ver()
least = tuple(map(int, sys.argv[1].split(".")))
sys.exit(0 if name == "glibc" and tuple(map(int, version.split(".")[:2])) >= least else 1)' "$(fact glibc)" ||
        refuse "the C library here is not glibc $(fact glibc) or newer, which the wheels need; use a newer system"
}

# there is a systemd, and it runs: containers have the program alone
has_systemd() { systemctl show-environment >/dev/null 2>&1; }

# points a symlink elsewhere in one step
flip() {
    rm -f "$1.new"
    ln -s "$2" "$1.new"
    mv -fT "$1.new" "$1"
}

selftest() {
    CLAPEDGE_BUNDLE="$1/bundle" "$1/venv/bin/clapedge" bundle selftest "$1"
}

# nobody else changes the installation while this script does
lock() {
    (: >>"$prefix/.lock") 2>/dev/null || refuse "$prefix cannot be written (a read-only or full disk?); run this as root, or name another --prefix"
    exec 9>"$prefix/.lock"
    flock -n 9 || refuse "another installation into $prefix is running; wait for it"
}

# the disk holds what the wheels unpack to, their compiled modules, and the other parts
check_space() {
    "$python" - "$here" "$prefix" <<'EOF' || refuse "there is not enough room in $prefix, see above; make room, or name another --prefix"
import pathlib, shutil, sys, zipfile
here, prefix = map(pathlib.Path, sys.argv[1:])
parts = [path for path in here.rglob("*") if path.is_file() and path.suffix != ".whl"]
needed = 32 * 2**20 + sum(path.stat().st_size for path in parts)
for wheel in here.glob("wheels/*.whl"):
    for file in zipfile.ZipFile(wheel).infolist():
        needed += file.file_size * (2 if file.filename.endswith(".py") else 1)
free = shutil.disk_usage(prefix).free
if free < needed:
    sys.exit(f"{free / 1e6:.0f} MB are free, and {needed / 1e6:.0f} MB are needed")
EOF
}

# every file of a version is as it was when it was installed
is_whole() (
    cd "$1" && [ -f .complete ] && [ -f installed.sums ] && [ -x venv/bin/python ] &&
        LC_ALL=C sha256sum --quiet -c installed.sums >&2
)

# sets $version to a whole copy of this kit, else to a place for one: a damaged copy stays until another one runs
choose_version() {
    for version in "$prefix/versions/$id" "$prefix/versions/$id".*; do
        [ -f "$version/.complete" ] || continue
        if is_whole "$version"; then
            return
        fi
        say "note: $version is damaged; the kit is installed anew"
    done
    version=$prefix/versions/$id
    copy=1
    while [ -f "$version/.complete" ]; do
        copy=$((copy + 1))
        version=$prefix/versions/$id.$copy
    done
}

# makes $version, whole and tested, or nothing that is used
build() {
    if [ -f "$version/.complete" ]; then
        say "this kit is installed already, and whole"
        return
    fi
    rm -rf "$version"
    check_space
    unfinished=$version
    mkdir -p "$version"
    say "installing into $version ..."
    "$python" -m venv --without-pip "$version/venv"
    for pip in "$here"/wheels/pip-*.whl; do :; done
    PIP_CONFIG_FILE=/dev/null "$version/venv/bin/python" "$pip/pip" --isolated --no-input --disable-pip-version-check \
        --quiet install --no-cache-dir --no-index --no-deps --require-hashes --only-binary :all: \
        --find-links "$here/wheels" -r "$here/requirements.txt"
    for part in bundle selftest licences systemd kit.json sbom.cdx.json requirements.txt README.txt install.sh; do
        cp -R "$here/$part" "$version/$part"
    done
    cat >"$version/clapedge" <<EOF
#!/bin/sh
# clapedge with the bundle that it was installed with
CLAPEDGE_BUNDLE=\${CLAPEDGE_BUNDLE:-$version/bundle} exec "$version/venv/bin/clapedge" "\$@"
EOF
    chmod 755 "$version/clapedge" "$version/install.sh"
    if [ "$test" = yes ]; then
        selftest "$version" || refuse "the self-test failed; nothing was changed"
        for each in "$prefix"/labels/*; do
            [ ! -f "$each" ] || fits "$version" "$each" ||
                refuse "$each does not fit this kit, see above; embed it again with this model (clapedge labels embed), or remove it"
        done
    fi
    (cd "$version" && find . -type f ! -path './installed.sums*' -exec sha256sum {} +) >"$version/installed.sums.new"
    mv -f "$version/installed.sums.new" "$version/installed.sums"
    sync
    : >"$version/.complete"
    unfinished=''
}

# a version can score with a label set
fits() {
    for clip in "$1"/selftest/*; do
        case $clip in
        *.json) ;;
        *) break ;;
        esac
    done
    CLAPEDGE_BUNDLE="$1/bundle" "$1/venv/bin/clapedge" score "$clip" --labels "$2" >/dev/null
}

# makes $version the one that runs
activate() {
    case $before in
    '' | "versions/$id" | "versions/$id".*) ;; # none, or a copy of the same version
    *) flip "$prefix/previous" "$before" ;;
    esac
    flip "$prefix/current" "versions/${version##*/}"
    mkdir -p "$prefix/bin"
    flip "$prefix/bin/clapedge" ../current/clapedge
    sync
}

# restarts the unit if it runs; returns 1 if it does not come up again
restart() {
    has_systemd || return 0
    systemctl is-active --quiet "$unit" || return 0
    start_again
}

# starts the unit anew, whether it runs or not; returns 1 if it does not come up
start_again() {
    say "restarting $unit ..."
    systemctl restart "$unit" || return 1
    sleep "$settle"
    systemctl is-active --quiet "$unit"
}

# removes versions that neither run nor wait to be rolled back to
prune() {
    for each in "$prefix"/versions/*; do
        case "versions/${each##*/}" in
        "$(readlink "$prefix/current")" | "$(readlink "$prefix/previous" || true)") ;;
        *) rm -rf "$each" ;;
        esac
    done
}

# makes what ran before the one that runs again, and removes what does not run
go_back() {
    target=versions/${version##*/}
    if [ "$before" = "$target" ]; then
        refuse "$unit does not run, and there was no other version in use before; see: journalctl -u $unit"
    fi
    if [ -z "$before" ]; then
        rm -rf "$prefix/current" "$prefix/bin/clapedge" "$version"
        refuse "$unit does not run with the new version, which was removed; there was none before. See: journalctl -u $unit"
    fi
    flip "$prefix/current" "$before"
    if [ -n "$previous" ]; then
        flip "$prefix/previous" "$previous"
    else
        rm -f "$prefix/previous"
    fi
    rm -rf "$version"
    sync
    back="went back to $before, which runs"
    start_again || back="went back to $before, which does not run either"
    refuse "$unit does not run with the new version; $back. See: journalctl -u $unit"
}

install_unit() {
    sed "s,/opt/clapedge,$prefix,g" "$version/systemd/$unit.service" >"$units/$unit.service.new"
    mv -f "$units/$unit.service.new" "$units/$unit.service"
    systemctl daemon-reload
    systemctl enable "$unit"
}

start_unit() {
    if [ ! -f "$settings" ]; then
        say "note: $unit is enabled, not started: write $settings ($units/$unit.service says how), then systemctl start $unit"
        return
    fi
    systemctl start "$unit" || refuse "$unit does not start; see: journalctl -u $unit"
}

install_kit() {
    if [ "$service" = yes ] && ! has_systemd; then
        refuse "there is no systemd here; leave out --service, and start PREFIX/bin/clapedge listen by other means"
    fi
    say "checking the kit ..."
    verify
    choose_python
    mkdir -p "$prefix/versions" || refuse "$prefix cannot be written; run this as root, or name another --prefix"
    prefix=$(cd "$prefix" && pwd -P)
    case $prefix in
    *[!A-Za-z0-9/._-]*) refuse "$prefix has characters that scripts and units stumble over; name another --prefix" ;;
    esac
    lock
    sums=$(sha256sum <"$here/SHA256SUMS")
    id=$(fact clapedge)-$(printf '%.12s' "$sums")
    choose_version
    build
    before=$(readlink "$prefix/current" || true)
    previous=$(readlink "$prefix/previous" || true)
    activate
    [ "$service" = no ] || install_unit
    restart || go_back
    prune
    [ "$service" = no ] || start_unit
    say "installed: $prefix/bin/clapedge"
}

# finds the installation that this script is part of
find_prefix() {
    [ -f "$here/.complete" ] || refuse "this belongs to an installed kit; call PREFIX/current/install.sh"
    prefix=${here%/versions/*}
}

rollback() {
    find_prefix
    lock
    back=$(readlink "$prefix/previous") || refuse "there is no version before this one; install an older kit"
    now=$(readlink "$prefix/current")
    [ "$back" != "$now" ] || refuse "there is no version before this one; install an older kit"
    [ -f "$prefix/$back/.complete" ] || refuse "the version before is not whole; install its kit again"
    is_whole "$prefix/$back" || refuse "the version before is damaged; install its kit again"
    flip "$prefix/current" "$back"
    flip "$prefix/previous" "$now"
    sync
    restart || refuse "$unit does not run with that version either; see: journalctl -u $unit"
    say "went back to ${back#versions/}"
}

uninstall() {
    find_prefix
    lock
    if has_systemd && [ -f "$units/$unit.service" ]; then
        systemctl disable --now "$unit"
        rm -f "$units/$unit.service"
        systemctl daemon-reload
    fi
    rm -rf "$prefix/current" "$prefix/previous" "$prefix/bin/clapedge" "$prefix/versions" "$prefix/.lock"
    rmdir "$prefix/bin" "$prefix" 2>/dev/null || say "note: $prefix holds files of yours, which stay"
    say "removed"
}

main() {
    here=$(cd "$(dirname "$0")" && pwd -P)
    prefix=/opt/clapedge python='' test=yes service=no action=install_kit
    unit=clapedge-listen unfinished='' refused='' labels=''
    trap finish EXIT
    units=${CLAPEDGE_UNITS:-/etc/systemd/system}
    settings=${CLAPEDGE_SETTINGS:-/etc/clapedge/listen.env}
    settle=${CLAPEDGE_SETTLE:-5} # seconds after which a unit that still runs is taken to be well
    while [ $# -gt 0 ]; do
        case $1 in
        --prefix | --python | --labels)
            [ $# -ge 2 ] || refuse "$1 needs a value; see ./install.sh --help"
            case $1 in
            --prefix) prefix=$2 ;;
            --python) python=$2 ;;
            --labels) labels=$2 action=copy_labels ;;
            esac
            shift
            ;;
        --service) service=yes ;;
        --no-selftest) test=no ;;
        --verify) action=verify ;;
        --selftest) action=selftest_again ;;
        --rollback) action=rollback ;;
        --uninstall) action=uninstall ;;
        -h | --help) action=usage ;;
        *)
            usage >&2
            refuse "$1 is no option"
            ;;
        esac
        shift
    done
    "$action"
}

# copies a label set to where upgrades leave it
copy_labels() {
    find_prefix
    [ -f "$labels" ] || refuse "$labels is no file; name a label set (.npz, or .toml, .csv, .txt if the kit has a text tower)"
    name=${labels##*/}
    case $name in
    *[!A-Za-z0-9._-]*) refuse "$name has characters that settings of a unit stumble over; rename it" ;;
    esac
    lock
    fits "$here" "$labels" || refuse "$labels does not fit the installed model, see above; embed it with this model (clapedge labels embed)"
    mkdir -p "$prefix/labels"
    cp "$labels" "$prefix/labels/$name.new"
    chmod 644 "$prefix/labels/$name.new"
    mv -f "$prefix/labels/$name.new" "$prefix/labels/$name"
    sync
    restart || refuse "$unit does not run with it; see: journalctl -u $unit"
    say "copied: use --labels $prefix/labels/$name"
}

selftest_again() {
    find_prefix
    selftest "$here"
}

main "$@"

#!/usr/bin/env bash
# Boots a QEMU target, and boots it again when it ends or when a runner asks for it.
set -Eeuo pipefail

usage() {
    cat <<'END'
Usage: qemu-up.sh [OPTION]... --user ADDRESS      a guest behind QEMU's user networking, no root
       qemu-up.sh [OPTION]... BRIDGE TAP          a guest on a bridge, as root: a tap device TAP is
                                                  made, and the guest asks for an address by DHCP

A guest of its own kind is booted from guest/build/ARCH; `python3 guest/build.py` builds it.

  --port PORT          TCP port of the taskloader (3001); with --user, forwarded from ADDRESS
  --arch ARCH          x86_64 or arm (x86_64)
  --kernel FILE        another kernel or ELF image, such as a Genode one
  --initrd FILE        another initial file system; none with --kernel alone
  --append TEXT        more for the kernel's command line; with --kernel, all of it
  --machine TYPE       QEMU's machine (q35, for arm virt), such as realview-pbx-a9
  --nic MODEL          QEMU's network device (virtio-net-pci, for arm virtio-net-device); lan9118
                       and others of that kind are part of a machine
  --memory MIB         memory of the guest (256)
  --cpus N             processors of the guest (1)
  --boot-timeout S     seconds after which a guest on a bridge that has sent no packet is frozen, and
                       is booted again (60)
  --accel kvm|tcg      by default KVM if it boots the guest's kernel here, else emulation
  --console FILE       append the guest's console to a file ('-': print it; by default neither)
  -h, --help           show this and exit

One line tells of each boot; the guest's monitor is a Unix socket that it names. Ctrl-C ends it.
A session asks for a kill by a file in a directory that only its user can write to: the runtime
directory of the user, also of one who runs this with sudo. docs/qemu.md has the details.
END
}

here=$(cd "$(dirname "$0")/.." && pwd)

say() { printf 'qemu-up.sh: %s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 2
}

# ---- what is asked for ----

port=3001 arch=x86_64 kernel='' initrd='' append='' machine='' nic='' memory=256 cpus=1
boot_timeout=60 accel='' console='' address='' positional=()

while [ $# -gt 0 ]; do
    case $1 in
    -h | --help)
        usage
        exit 0
        ;;
    --user | --port | --arch | --kernel | --initrd | --append | --machine | --nic | --memory | \
        --cpus | --accel | --console | --boot-timeout)
        [ -n "${2:-}" ] || fail "$1 must be followed by a value; see --help"
        option=${1#--}
        option=${option//-/_}
        [ "$option" != user ] || option=address
        printf -v "$option" %s "$2"
        shift 2
        ;;
    -*) fail "unknown option '$1'; see --help" ;;
    *)
        positional+=("$1")
        shift
        ;;
    esac
done

whole() { # NAME VALUE LEAST MOST
    if ! [[ $2 =~ ^[0-9]{1,9}$ ]] || ((10#$2 < $3 || 10#$2 > $4)); then
        fail "$1 must be a whole number from $3 to $4, got '$2'"
    fi
}
whole --port "$port" 1 65535
whole --memory "$memory" 16 1048576
whole --cpus "$cpus" 1 256
whole --boot-timeout "$boot_timeout" 1 86400
case $accel in '' | kvm | tcg) ;; *) fail "--accel must be kvm or tcg, got '$accel'" ;; esac

if [ -n "$address" ]; then
    [ ${#positional[@]} -eq 0 ] ||
        fail "--user takes no bridge and tap device, got '${positional[*]}'; leave one out"
    byte='(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])'
    [[ $address =~ ^($byte\.){3}$byte$ ]] ||
        fail "--user must be an IPv4 address of this machine, such as 127.0.9.1, got '$address'"
    bridge='' tap='' label=$address
else
    [ ${#positional[@]} -eq 2 ] ||
        fail "must have --user ADDRESS, or BRIDGE and TAP, got '${positional[*]:-nothing}'; see --help"
    bridge=${positional[0]} tap=${positional[1]} label=$tap
    [[ $tap =~ ^[A-Za-z0-9_-]{1,15}$ ]] ||
        fail "the name of a tap device must be 1 to 15 letters, digits, '_' or '-', got '$tap'"
fi

# What a machine needs: package, emulator, console, and defaults of its network.
case $arch in
x86_64) package=qemu-system-x86 emulator=qemu-system-x86_64 tty=ttyS0 default=q35 card=virtio-net-pci ;;
arm) package=qemu-system-arm emulator=qemu-system-arm tty=ttyAMA0 default=virt card=virtio-net-device ;;
*) fail "--arch must be x86_64 or arm, got '$arch'" ;;
esac
machine=${machine:-$default} nic=${nic:-$card}

missing=()
need() { command -v "$1" >/dev/null || missing+=("$2"); } # COMMAND PACKAGE
need "$emulator" "$package"
need setpriv util-linux
[ -n "$address" ] || need ip iproute2
[ ${#missing[@]} -eq 0 ] || fail "tools are missing; run: apt-get install ${missing[*]}"

image=$here/guest/build/$arch
if [ -z "$kernel" ]; then
    kernel=$image/vmlinuz initrd=${initrd:-$image/initramfs}
    for file in vmlinuz initramfs; do
        [ -e "$image/$file" ] ||
            fail "there is no image in $image; run: python3 guest/build.py --arch $arch"
    done
    # A guest that panics is of no use: its QEMU ends, and the next one boots.
    append="console=$tty panic=-1 quiet taskloader_port=$port $append"
fi
for file in "$kernel" ${initrd:+"$initrd"}; do
    if [ ! -f "$file" ] || [ ! -r "$file" ]; then
        fail "'$file' must be a file that can be read"
    fi
done
case $console in
'' | -) ;;
*) { : >>"$console"; } 2>/dev/null || fail "--console must be a file that can be written, got '$console'" ;;
esac
if [ -n "$bridge" ]; then
    [ "$EUID" = 0 ] || fail "a bridge needs root; run this with sudo, or use --user ADDRESS"
    if [ -z "$(ip link show dev "$bridge" type bridge 2>/dev/null)" ]; then
        ! ip link show dev "$bridge" >/dev/null 2>&1 ||
            fail "'$bridge' must be a bridge, and is another device; choose another name"
        fail "'$bridge' must be a bridge; make one: ip link add $bridge type bridge"
    fi
    ! ip link show dev "$tap" >/dev/null 2>&1 || fail "device '$tap' exists already; choose another name"
fi

# ---- where runners put their requests ----

# The same rule as taskgen_run/requests.py has it.
runtime_of() { # UID: the directory of a user in which nobody else can write
    local named=${XDG_RUNTIME_DIR:-} home
    home=$(getent passwd "$1" | cut -d: -f6) || home=/nonexistent
    if [[ $named = /* ]] && [ "$(stat -Lc %u "$named" 2>/dev/null)" = "$1" ]; then
        printf %s "$named/taskgen_run"
    elif [ -d "/run/user/$1" ]; then
        printf %s "/run/user/$1/taskgen_run"
    elif [ "$1" = 0 ]; then
        printf %s /run/taskgen_run
    else
        printf %s "$home/.cache/taskgen_run"
    fi
}
as_user() { # UID COMMAND...: as that user, where directories are that the user could change
    local user=$1
    shift
    if [ "$user" = "$EUID" ]; then "$@"; else setpriv --reuid "$user" --clear-groups -- "$@"; fi
}
private() { # DIRECTORY UID: makes it, or fails if others could write to it
    (umask 077 && as_user "$2" mkdir -p "$1" 2>/dev/null) ||
        fail "directory '$1' cannot be made; set XDG_RUNTIME_DIR to a directory of user $2"
    if [ -L "$1" ] || [ "$(stat -c '%u %a' "$1")" != "$2 700" ]; then
        fail "'$1' must be a directory of user $2 with mode 700, for nobody else; remove it"
    fi
}
prepare() { # PLACE: the directories of one of those whose requests are served
    private "${runtimes[$1]}" "${users[$1]}"
    private "${runtimes[$1]}/requests" "${users[$1]}"
    private "${runtimes[$1]}/instances" "${users[$1]}"
}
own=$(runtime_of "$EUID")
users=("$EUID") runtimes=("$own")
if [ "$EUID" = 0 ] && [ "${SUDO_UID:-0}" != 0 ]; then
    [[ $SUDO_UID =~ ^[0-9]{1,10}$ ]] || fail "SUDO_UID must be the id of a user, got '$SUDO_UID'"
    users+=("$SUDO_UID") runtimes+=("$(runtime_of "$SUDO_UID")")
fi
for place in "${!users[@]}"; do
    prepare "$place"
done

# ---- whatever happens, nothing is left ----

pid=''
# The address of a guest on a bridge, also of the boot before; and all that the table has of it.
current=''
declare -A seen=()
printf -v mac '52:54:%02x:%02x:%02x:%02x' $((RANDOM % 256)) $((RANDOM % 256)) \
    $((RANDOM % 256)) $((RANDOM % 256))
name=$label.$$.$RANDOM
work=$own/$name
monitor=$work/monitor
[ ${#monitor} -lt 108 ] ||
    fail "the path of a socket must be shorter than 108 bytes, got '$monitor'; set XDG_RUNTIME_DIR"

learn_address() { # what the neighbour table says of the MAC address of the guest
    local table found said
    local -A entries=()
    table=$(ip -4 neigh show dev "$bridge")
    while read -r found said; do
        if [[ " $said " = *" lladdr $mac "* ]]; then
            entries[$found]=1
            # An address that it has lost may stay in the table; the new one is added to it.
            [ -n "${seen[$found]:-}" ] || current=$found
        elif [[ " $said " = *" lladdr "* ]] && [ "$found" = "$current" ]; then
            current='' # another machine has it now
        fi
    done <<<"$table"
    seen=()
    for found in "${!entries[@]}"; do
        seen[$found]=1
    done
}

tell_host() { # tells runners which host is this instance's, and when it was booted: by a file
    local place file old
    for place in "${!users[@]}"; do
        file=${runtimes[place]}/instances/${address:-$current}@$port@$booted@$name
        # What cannot be made now, perhaps as the user has logged out, is tried again.
        [ -z "${address:-$current}" ] || [ -e "$file" ] ||
            as_user "${users[place]}" touch "$file" 2>/dev/null || true
        for old in "${runtimes[place]}/instances/"*"@$name"; do
            [ "$old" = "$file" ] || [ ! -e "$old" ] || as_user "${users[place]}" rm -f "$old"
        done
    done
}

end_instance() { # kills the instance, and what the network remembers of it
    local job known
    # The only job of this script is its QEMU; a signal may have come before its process was noted.
    for job in $(jobs -rp); do
        kill -KILL "$job" 2>/dev/null || true
        wait "$job" 2>/dev/null || true
    done
    pid=''
    [ -z "$bridge" ] || learn_address 2>/dev/null || true
    for known in "${!seen[@]}"; do
        ip neigh del "$known" dev "$bridge" 2>/dev/null || true
    done
    seen=()
}
finish() {
    trap '' INT TERM HUP
    end_instance
    exec {lifeline}>&-
    wait "$cleaner" || true
}

# What SIGKILL would leave is cleared by a process of its own. It waits for the end of its input:
# until neither this script nor its QEMU is alive. The tap device is one that goes with its QEMU.
# shellcheck disable=SC2016  # its own variables
exec {lifeline}> >(
    exec setsid sh -c '
        trap "" INT TERM HUP
        cat
        work=$1 name=$2 bridge=$3 mac=$4
        shift 4
        rm -rf "$work"
        for runtime; do
            rm -f "$runtime/instances/"*"@$name"
        done
        [ -n "$bridge" ] || exit 0
        for known in $(ip neigh show dev "$bridge" | grep -F " $mac " | cut -d " " -f 1); do
            ip neigh del "$known" dev "$bridge"
        done 2>/dev/null' cleaner "$work" "$name" "$bridge" "$mac" "${runtimes[@]}"
)
cleaner=$!
trap finish EXIT
trap 'say "line $LINENO has failed: $BASH_COMMAND"; exit 1' ERR
trap 'exit 130' INT
trap 'exit 143' TERM HUP
mkdir "$work"

# ---- one instance after the other ----

now() { # hundredths of a second since this machine was booted
    local up
    read -r up _ </proc/uptime
    printf %s "$((10#${up/./}))"
}

# A trap that exits in the middle of `read -t` makes bash 5.2 crash; a signal may end the sleep.
pause() { { sleep 0.1 || true; } 2>/dev/null; }

start() { # COMMAND...
    : >"$work/errors" # there even if the process is killed before it is QEMU
    # The kernel kills it when this script ends, however that does, unless it has ended before.
    # shellcheck disable=SC2016  # the variables of the shell in between
    setpriv --pdeathsig KILL -- sh -c '[ "$PPID" = "$0" ] && exec "$@"' "$$" "$@" \
        </dev/null 2>"$work/errors" &
    pid=$!
}
runs() { kill -0 "$pid" 2>/dev/null; }
status_of_ended() {
    local status=0
    wait "$pid" 2>/dev/null || status=$?
    pid=''
    return "$status"
}

may_have_kvm() { [ "$arch" = "$(uname -m)" ] && [ -w /dev/kvm ] && [ -r "$image/vmlinuz" ]; }
kvm_works() { # whether KVM boots a Linux kernel until it panics for want of a file system
    local deadline=$(($(now) + 1000))
    start "$emulator" -accel kvm -machine "$machine" -m 256 -nodefaults -no-user-config \
        -display none -no-reboot -kernel "$image/vmlinuz" -append 'panic=-1 quiet'
    while runs; do
        if (($(now) > deadline)); then
            end_instance
            return 1
        fi
        pause
    done
    status_of_ended
}
if [ -z "$accel" ]; then
    accel=tcg
    if may_have_kvm; then
        say "$label: tries whether KVM works, for 10 s at most; --accel tcg or kvm skips that"
        ! kvm_works || accel=kvm
    fi
    [ "$accel" = kvm ] || say "$label: the guest is emulated, without KVM"
fi

if [ -n "$address" ]; then
    netdev=user,id=net,restrict=on,hostfwd=tcp:$address:$port-:$port
else
    netdev=tap,id=net,ifname=$tap,script=no,downscript=no
fi
command=("$emulator" -accel "$accel" -machine "$machine" -m "$memory" -smp "$cpus"
    -nodefaults -no-user-config -display none -no-reboot -kernel "$kernel" -append "$append"
    -netdev "$netdev" -monitor "unix:${monitor//,/,,},server=on,wait=off")
[ -z "$initrd" ] || command+=(-initrd "$initrd")
case $nic in
virtio-net-*) command+=(-device "$nic,netdev=net,mac=$mac") ;;
*) command+=(-net "nic,model=$nic,netdev=net,macaddr=$mac") ;;
esac
case $accel,$arch,$machine in
# Without random numbers of the processor, the guest's first program waits a second for others.
tcg,x86_64,*) command+=(-cpu 'qemu64,+rdrand') ;;
*,arm,virt) command+=(-cpu cortex-a15) ;;
esac
case $console in
'') command+=(-serial null) ;;
-) command+=(-chardev 'stdio,id=console,signal=off' -serial chardev:console) ;;
*) command+=(-chardev "file,id=console,append=on,path=${console//,/,,}" -serial chardev:console) ;;
esac

boot() {
    local place
    # A runtime directory is removed when its user logs out, and made again with the next login.
    prepare 0
    for place in "${!users[@]}"; do
        (prepare "$place") 2>/dev/null || true
    done
    mkdir -p "$work"
    start "${command[@]}"
    booted=$(now)
    say "$label: boots, process $pid, monitor $monitor"
    [ -n "$bridge" ] || return 0
    # QEMU makes its tap device when it starts, long before the guest needs it.
    while runs && ! ip link show dev "$tap" >/dev/null 2>&1; do
        pause
    done
    # A bridge takes the lowest of its devices' addresses, and forgets its neighbours when it does.
    ip link set dev "$tap" address "fe:${mac#*:}" master "$bridge" up || ! runs
}

is_mine() { # HOST PORT
    [ -n "$1" ] && [ "$1" = "${address:-$current}" ] && [ "$2" = "$port" ]
}

serve_requests() { # takes those for this instance; whether one asks for the present boot
    local directory request host asked since looked='' kill=1
    for directory in "${runtimes[@]/%//requests}"; do
        for request in "$directory"/*@*@*; do
            [ -e "$request" ] || continue
            if [ -n "$bridge" ] && [ -z "$looked" ]; then
                learn_address # it may have moved a moment ago
                looked=1
            fi
            IFS=@ read -r host asked _ <<<"${request##*/}"
            is_mine "$host" "$asked" || continue
            if [ -L "$directory" ] || [ -L "$request" ] || [ ! -f "$request" ]; then
                continue # no runner has made it
            fi
            { read -r since <"$request"; } 2>/dev/null || continue
            [[ $since =~ ^[0-9]{1,15}$ ]] || since=0
            # One that was made before the last boot has been served by it; one of the future is left
            # of the time before this machine was booted.
            ((10#$since < booted || 10#$since > $(now))) || kill=0
            rm -f "$request"
        done
    done
    return "$kill"
}

is_mute() { # whether the guest on a bridge has not sent a packet, and had the time to
    local packets
    [ -n "$bridge" ] && (($(now) - booted > 100 * boot_timeout)) || return 1
    { read -r packets <"/sys/class/net/$tap/statistics/rx_packets"; } 2>/dev/null || return 1
    ((packets == 0))
}

quick_ends=0 ticks=0
boot
while :; do
    pause
    [ -z "$bridge" ] || ((ticks++ % 10)) || learn_address
    tell_host
    if serve_requests; then
        say "$label: a runner has asked for its end"
        end_instance
        boot
    elif is_mute; then
        say "$label: its guest has sent nothing for $boot_timeout s"
        end_instance
        boot
    elif ! runs; then
        status=0
        status_of_ended || status=$?
        if (($(now) - booted < 200)); then
            quick_ends=$((quick_ends + 1))
        else
            quick_ends=0
        fi
        reason=$(sed -n "s/^$emulator: //p" "$work/errors" 2>/dev/null | tail -n 1) || reason=
        [ -n "$reason" ] || reason=$(tail -n 1 "$work/errors" 2>/dev/null) || reason=
        [ -n "$reason" ] || ((status != 0)) ||
            reason='its guest has switched itself off; --console - shows why'
        [[ $reason != *'host forwarding'* ]] ||
            reason+="; $address must be an address of this machine, and its port $port free"
        ((quick_ends < 3)) ||
            fail "$label: QEMU has ended 3 times at once with $status: ${reason:-without a word}"
        say "$label: QEMU has ended with $status${reason:+: $reason}"
        end_instance
        boot
    fi
done

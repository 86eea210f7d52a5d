# What the two get_ms_coco_*.sh share; sourced, not run. Needs unzip, curl or wget, and flock or python3.
# RETRY_SECONDS is the pause before another try, STALL_SECONDS how long a server may send next to nothing.

fail() { # STATUS SENTENCE
    echo "$(basename "$0"): $2" >&2
    exit "$1"
}

need() { # PROGRAM
    command -v "$1" >/dev/null || fail 1 "$1 is needed: install it with your system's package manager"
}

# Be the only run in a folder, until this one and all programs that it started have ended: FOLDER
alone() {
    exec 9< "$1"
    lock || { sleep 1; lock; } || # what has just been killed takes a moment to end
        fail 1 "another run is at work in $(cd "$1" && pwd): wait until it has ended"
}

lock() {
    if command -v flock >/dev/null; then
        flock -n 9
    else
        need python3
        python3 -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)' 2>/dev/null
    fi
}

room() { # FOLDER MEGABYTES [WHAT IS THERE OF IT ...]
    where=$1 wanted=$2
    shift 2
    there=$(du -sk "$@" /dev/null 2>/dev/null | awk '{ sum += $1 } END { print int(sum / 1024) }')
    free=$(df -Pk "$where" | awk 'NR == 2 { print int($4 / 1024) }')
    [ "$((free + there))" -ge "$wanted" ] ||
        fail 1 "$((wanted - there)) MB are needed in $(cd "$where" && pwd), which has $free: free some, then run this again"
}

unwritable() { # FILE
    fail 1 "$1 could not be written: free some room on its disk, then run this again"
}

# Remove an archive whose content is wrong, so that the next run fetches it again: ARCHIVE URL WHAT IT HOLDS
reject() {
    rm -rf "$1" "${1%.zip}.part"
    fail 1 "what came from $2 holds $3, and was removed: see that the address is right, then run this again"
}

# Get a zip archive, going on where an earlier try stopped, and test it: URL ARCHIVE
fetch() {
    ! whole "$2" || return 0
    rm -f "$2"
    if [ -f "$2.part" ] && ! whole "$2.part"; then
        echo "Going on with $1 ..."
        download "$1" "$2.part"
        whole "$2.part" || rm -f "$2.part" # what was left is damaged: from the start
    fi
    if [ ! -f "$2.part" ]; then
        echo "Downloading $1 ..."
        download "$1" "$2.part"
        whole "$2.part" || { rm -f "$2.part"; fail 1 "what came from $1 is no whole zip archive, and was removed: run this again"; }
    fi
    mv "$2.part" "$2"
}

whole() { # FILE; a password that it doesn't need keeps unzip from asking for one
    [ -f "$1" ] && unzip -P none -tqq "$1" </dev/null >/dev/null 2>&1
}

download() { # URL FILE
    status=0
    try_download "$1" "$2" || status=$?
    case $status in
        0) ;;
        3|23) unwritable "$2" ;; # of wget, of curl
        *) fail 1 "$1 could not be downloaded: check the connection, then run this again, it goes on where it stopped" ;;
    esac
}

try_download() { # URL FILE
    stall=${STALL_SECONDS:-20} pause=${RETRY_SECONDS:-3}
    if command -v curl >/dev/null; then
        for try in 1 2 3; do
            status=0
            code=$(curl -fL --connect-timeout "$stall" --speed-limit 1000 --speed-time "$stall" -C - -o "$2" \
                -w '%{http_code}' "$1") || status=$?
            case $status:$code in
                33:*|36:*|22:416) rm -f "$2" ;; # the server can't go on where the file ends: from the start
                0:*|23:*|22:4*) return "$status" ;;
            esac
            [ "$try" -eq 3 ] || sleep "$pause"
        done
        return "$status"
    elif command -v wget >/dev/null; then
        wget --tries=3 --waitretry="$pause" --timeout="$stall" -c -O "$2" "$1"
    else
        fail 1 "curl or wget is needed: install one with your system's package manager"
    fi
}

# Unpack COUNT files of an archive into ARCHIVE's name with .part for .zip, without their folders, or reject it. None may
# be larger than BYTES; as an archive may lie, "ulimit" sees to that, and what came is compared: ARCHIVE URL PATTERN COUNT BYTES
unpack() {
    unpacked=${1%.zip}.part
    rm -rf "$unpacked"
    read -r files bytes odd <<END
$(listing "$1" "$3" "$5")
END
    [ -z "$odd" ] || reject "$1" "$2" "$odd, which is oddly named or larger than $(($5 / 1000000)) MB"
    [ "$files" -eq "$4" ] || reject "$1" "$2" "$files files $3, not $4"
    room "$(dirname "$1")" "$((bytes / 1000000 + 1))"
    mkdir "$unpacked" 2>/dev/null || unwritable "$unpacked"
    status=0
    (ulimit -f "$(($5 / 512 + 1))" && exec unzip -qoj "$1" "$3" -d "$unpacked") </dev/null >/dev/null 2>&1 || status=$?
    got=$(regular_files "$unpacked")
    [ "${got#* }" -le "$bytes" ] || reject "$1" "$2" "more than it lists"
    case $status in
        0|1) [ "$got" = "$files $bytes" ] || reject "$1" "$2" "something else than it lists" ;;
        50) rm -rf "$unpacked"; unwritable "$unpacked" ;;
        *) fail 1 "$1 could not be unpacked, unzip says $status: run this again" ;;
    esac
}

# Print how many files of an archive match, their bytes, and the first that is too large or oddly named: ARCHIVE PATTERN BYTES
listing() {
    unzip -lqq "$1" "$2" 2>/dev/null | awk -v most="$3" '
        $1 !~ /^[0-9]+$/ { next }
        !odd && (NF != 4 || $1 > most || $4 !~ /^([a-z0-9]+\/)?[A-Za-z0-9_.]+$/) { odd = $4 }
        { files++; bytes += $1 }
        END { printf "%d %.0f %s", files, bytes, odd }'
}

regular_files() { # FOLDER: print how many files it holds, and their bytes
    find "$1" -type f -exec wc -c {} + | awk '$2 != "total" { files++; bytes += $1 } END { printf "%d %.0f", files, bytes }'
}

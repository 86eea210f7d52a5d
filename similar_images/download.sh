# What the two get_ms_coco_*.sh share; sourced, not run. Needs curl or wget.

fail() { # STATUS SENTENCE
    echo "$(basename "$0"): $2" >&2
    exit "$1"
}

need() { # PROGRAM
    command -v "$1" >/dev/null || fail 1 "$1 is needed: install it with your system's package manager"
}

room() { # FOLDER MEGABYTES
    free=$(df -Pk "$1" | awk 'NR == 2 { print int($4 / 1024) }')
    [ "$free" -ge "$2" ] || fail 1 "$2 MB are needed in $(cd "$1" && pwd), which has $free: free some"
}

# Get a zip archive, going on where an earlier try stopped, and test it: URL FILE
fetch() {
    [ ! -f "$2" ] || return 0
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

whole() { # FILE
    unzip -tqq "$1" >/dev/null 2>&1
}

download() { # URL FILE
    try_download "$1" "$2" || fail 1 "$1 could not be downloaded: check the connection and run this again, it goes on where it stopped"
}

try_download() { # URL FILE
    if command -v curl >/dev/null; then
        for try in 1 2 3 4 5; do
            status=0
            code=$(curl -fL --connect-timeout 30 --speed-limit 1 --speed-time 60 -C - -o "$2" -w '%{http_code}' "$1") || status=$?
            [ "$status" -ne 0 ] || return 0
            case $status:$code in
                33:*|36:*|22:416) rm -f "$2" ;; # the server can't go on where the file ends: from the start
                22:4*) return 1 ;;
            esac
            [ "$try" -eq 5 ] || sleep "${RETRY_SECONDS:-3}"
        done
        return 1
    elif command -v wget >/dev/null; then
        wget --tries=5 --timeout=60 -c -O "$2" "$1"
    else
        fail 1 "curl or wget is needed: install one with your system's package manager"
    fi
}

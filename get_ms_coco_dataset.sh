#!/bin/sh
# Fetch the photos of MS COCO into ms_coco/SPLIT and list them: ./get_ms_coco_dataset.sh [--split val2014|val2017]
# Safe to run again: goes on with an interrupted download, and does nothing where all is there.
# MS_COCO_URL and MS_COCO_COUNT override the archive's address and how many photos it must hold.
set -eu
. "$(dirname "$0")/similar_images/download.sh"

split=val2014
while [ $# -gt 0 ]; do
    case $1 in
        --split) [ $# -ge 2 ] || fail 2 "--split needs a name: val2014 or val2017"; split=$2; shift 2 ;;
        --split=*) split=${1#--split=}; shift ;;
        -h|--help) sed -n '2,4s/^# //p' "$0"; exit 0 ;;
        *) fail 2 "unknown argument $1: try --help" ;;
    esac
done
case $split in
    val2014) count=40504 megabytes=13500 list=ms_coco_file_list.txt ;;
    val2017) count=5000 megabytes=1700 list=ms_coco_val2017_file_list.txt ;;
    *) fail 2 "unknown split $split: choose val2014 (40,504 photos, 6.2 GB) or val2017 (5,000 photos, 0.8 GB)" ;;
esac
# images.cocodataset.org has no certificate of its own; its files lie in this bucket.
url=${MS_COCO_URL:-https://s3.amazonaws.com/images.cocodataset.org/zips/$split.zip}
count=${MS_COCO_COUNT:-$count}
folder=ms_coco/$split

photos() { find "$1" -type f -name '*.jpg' | sed 's|.*/||' | LC_ALL=C sort; }

mkdir -p ms_coco
if [ ! -d "$folder" ]; then
    need unzip
    [ -n "${MS_COCO_URL:-}" ] || room ms_coco "$megabytes"
    fetch "$url" "$folder.zip"
    echo "Unpacking $folder.zip ..."
    rm -rf "$folder.part"
    unzip -q "$folder.zip" -d "$folder.part" || fail 1 "$folder.zip could not be unpacked: free some room, then run this again"
    found=$(photos "$folder.part" | wc -l | tr -d ' ')
    [ "$found" -eq "$count" ] || fail 1 "$url holds $found photos, not $count: is the address right?"
    mv "$folder.part/$split" "$folder"
    rm -rf "$folder.part" "$folder.zip"
fi
photos "$folder" > "$list.part"
found=$(wc -l < "$list.part" | tr -d ' ')
[ "$found" -eq "$count" ] || fail 1 "$folder holds $found photos, not $count: remove the folder and run this again"
mv "$list.part" "$list"
echo "$count photos are in $folder, their names in $list. Next:"
echo "  python extract_image_vectors.py -l $list -d $folder"
[ "$split" != val2014 ] || echo "or ./get_ms_coco_vectors.sh for vectors that somebody else has computed"

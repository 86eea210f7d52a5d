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
case $count in *[!0-9]*) fail 2 "MS_COCO_COUNT must be a number, not $count" ;; esac
folder=ms_coco/$split

photos() { find "$1" -type f -name '*.jpg' | sed 's|.*/||' | LC_ALL=C sort; }

mkdir -p ms_coco 2>/dev/null || fail 1 "the folder ms_coco can't be made in $PWD: run this where you may write"
alone ms_coco
if [ ! -d "$folder" ]; then
    need unzip
    [ -n "${MS_COCO_URL:-}" ] || room ms_coco "$megabytes" "$folder".*
    fetch "$url" "$folder.zip"
    unpack "$folder.zip" "$url" "$split/*.jpg" "$count" 20000000
    mv "$folder.part" "$folder"
fi
photos "$folder" > "$list.part" || unwritable "$list.part"
found=$(wc -l < "$list.part" | tr -d ' ')
[ "$found" -eq "$count" ] || { rm "$list.part"; fail 1 "$folder holds $found photos, not $count: remove the folder and run this again"; }
mv "$list.part" "$list"
rm -rf "$folder.part" "$folder.zip" "$folder.zip.part"
echo "$count photos are in $folder, their names in $list. Next:"
echo "  python extract_image_vectors.py -l $list -d $folder"
[ "$split" != val2014 ] || echo "or ./get_ms_coco_vectors.sh for vectors that somebody else has computed"

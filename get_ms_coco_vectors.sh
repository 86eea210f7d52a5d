#!/bin/sh
# Fetch the published VGG16 vectors of MS COCO val2014: ms_coco_file_list.txt.saved_predictions.npy, 40,504 x 4096.
# Safe to run again: goes on with an interrupted download, and does nothing where all is there.
# MS_COCO_VECTORS_URL overrides the archive's address.
set -eu
. "$(dirname "$0")/similar_images/download.sh"

case ${1:-} in
    '') ;;
    -h|--help) sed -n '2,4s/^# //p' "$0"; exit 0 ;;
    *) fail 2 "unknown argument $1: try --help" ;;
esac
url=${MS_COCO_VECTORS_URL:-https://www.dropbox.com/s/zlt6aszbgzgi6d2/ms_coco_predictions_vgg.zip?dl=1}
vectors=ms_coco_file_list.txt.saved_predictions.npy
archive=ms_coco_predictions_vgg.zip

if [ ! -f "$vectors" ]; then
    need unzip
    [ -n "${MS_COCO_VECTORS_URL:-}" ] || room . 900
    fetch "$url" "$archive"
    unzip -l "$archive" "$vectors" >/dev/null || fail 1 "$url holds no $vectors: is the address right?"
    unzip -p "$archive" "$vectors" > "$vectors.part" || fail 1 "$archive could not be unpacked: free some room, then run this again"
    mv "$vectors.part" "$vectors"
    rm "$archive"
fi
echo "The vectors are in $vectors. Next:"
[ -f ms_coco_file_list.txt ] || echo "  ./get_ms_coco_dataset.sh    (the photos, and the list that names the rows)"
echo "  python build_search_db.py -i $vectors"

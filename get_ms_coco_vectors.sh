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
name=ms_coco_predictions_vgg

# Tell whether a file is a matrix of floats that NumPy saved, of the size that its header says: FILE
is_matrix() {
    header=$(dd if="$1" bs=512 count=1 2>/dev/null | LC_ALL=C tr -cd '[:print:]')
    read -r bytes rows columns <<END
$(echo "$header" | sed -n "s/^NUMPY.*'descr': '<f\([248]\)'.*'shape': (\([0-9]*\), \([0-9]*\)).*/\1 \2 \3/p")
END
    rest=$(($(wc -c < "$1") - ${bytes:-0} * ${rows:-0} * ${columns:-0}))
    [ -n "$columns" ] && [ "$rest" -gt 0 ] && [ "$rest" -le 4096 ]
}

alone .
if [ ! -f "$vectors" ]; then
    need unzip
    [ -n "${MS_COCO_VECTORS_URL:-}" ] || room . 900 "$name".*
    fetch "$url" "$name.zip"
    unpack "$name.zip" "$url" "$vectors" 1 2000000000
    is_matrix "$name.part/$vectors" || reject "$name.zip" "$url" "a $vectors that is no whole NumPy matrix"
    mv "$name.part/$vectors" "$vectors"
fi
rm -rf "$name.part" "$name.zip" "$name.zip.part"
echo "The vectors are in $vectors. Next:"
[ -f ms_coco_file_list.txt ] || echo "  ./get_ms_coco_dataset.sh    (the photos, and the list that names the rows)"
echo "  python build_search_db.py -i $vectors"

// Query photos: upload, drop, paste, camera or address. The browser shrinks each before it is sent, so that any
// camera's photo passes through the notebook's connection; it is a message, and so is never saved.

async function shrunk(photo, side) {
  const bitmap = await createImageBitmap(photo, { imageOrientation: "from-image" });
  const scale = side / Math.max(bitmap.width, bitmap.height);
  if (scale >= 1) return photo;
  const width = Math.max(1, Math.round(bitmap.width * scale));
  const height = Math.max(1, Math.round(bitmap.height * scale));
  return painted(bitmap, width, height);
}

function painted(picture, width, height) {
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, width, height);
  return new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.95));
}

// A dialog with what the camera sees; gives the photo that is taken to `taken`.
async function camera(el, taken, failed) {
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    return failed(`The camera can't be used (${error.message}): allow it in the browser, or upload a photo.`);
  }
  const video = make("video", { autoplay: true, muted: true, playsInline: true, srcObject: stream });
  const take = button("Take the photo", "", async () => {
    const photo = await painted(video, video.videoWidth, video.videoHeight);
    dialog.close();
    taken(photo);
  });
  const cancel = button("Cancel", "", () => dialog.close());
  const dialog = make("dialog", { className: "si-dialog", ariaLabel: "Camera" }, video, make("p", {}, take, cancel));
  dialog.onclose = () => {
    stream.getTracks().forEach((track) => track.stop());
    dialog.remove();
  };
  el.append(dialog);
  dialog.showModal();
  take.focus();
}

function render({ model, el }) {
  const add = make("input", { type: "checkbox" });
  const chooser = make("input", { type: "file", accept: "image/*", multiple: true, hidden: true });
  const address = make("input", {
    type: "text",
    className: "si-field",
    placeholder: "https://… address of a photo",
    ariaLabel: "Address of a photo",
  });
  const form = make("form", { className: "si-address" }, address, make("button", { className: "si-button", textContent: "Search" }));
  const zone = make(
    "div",
    { className: "si-zone", tabIndex: 0, role: "group", ariaLabel: "Your photo: upload, drop or paste" },
    button("Upload a photo", "one, or several that have something in common", () => chooser.click()),
    chooser,
    make("span", { className: "si-hint", textContent: "or drop or paste it here" }),
  );
  const adding = make("label", { title: "search for what all of the photos have in common" }, add, " Combine with current photo");
  el.classList.add("si-input");
  keepKeys(el);
  el.append(zone, form, adding);
  if (navigator.mediaDevices?.getUserMedia) {
    zone.append(button("Camera", "take a photo", () => camera(el, (photo) => send([photo], ["camera photo"]), reportError)));
  }

  function reportError(sentence) {
    model.send({ kind: "failed", sentence });
  }

  async function send(photos, names) {
    const max = model.get("max_photos");
    if (photos.length > max) return reportError(`These are ${photos.length} photos: choose at most ${max} at a time.`);
    const upload = crypto.getRandomValues(new Uint32Array(4)).join("-"); // randomUUID is only there under https
    const adds = add.checked;
    for (const [at, photo] of photos.entries()) {
      // What the browser can't decode, HEIC say, goes as it is: Python may be able to.
      const small = await shrunk(photo, model.get("longest_side")).catch(() => photo);
      const content = { upload, name: names[at], add: adds, last: at === photos.length - 1 };
      if (small.size > model.get("max_bytes")) {
        model.send({ kind: "refused", megabytes: Math.round(small.size / 1e6), ...content });
      } else {
        model.send({ kind: "photo", ...content }, undefined, [await small.arrayBuffer()]);
      }
    }
  }

  function sendFiles(files) {
    send(files, files.map((file) => file.name || "pasted photo"));
  }

  function sendAddress(text) {
    model.send({ kind: "address", address: text, add: add.checked });
  }

  function take(data) {
    const files = [...data.files];
    const photos = files.filter((file) => file.type.startsWith("image/"));
    const text = (data.getData("text/uri-list") || data.getData("text/plain")).trim();
    if (files.length) sendFiles(photos.length ? photos : files.slice(0, 1));
    else if (text) sendAddress((address.value = text));
  }

  onEnter(address, () => form.requestSubmit());
  form.onsubmit = (event) => {
    event.preventDefault();
    sendAddress(address.value.trim());
  };
  chooser.onchange = () => {
    sendFiles([...chooser.files]);
    chooser.value = ""; // the same photo can be chosen again
  };
  zone.onpaste = (event) => {
    event.preventDefault();
    event.stopPropagation();
    take(event.clipboardData);
  };
  zone.ondragover = (event) => {
    event.preventDefault();
    zone.classList.add("si-over");
  };
  zone.ondragleave = () => zone.classList.remove("si-over");
  zone.ondrop = (event) => {
    event.preventDefault();
    event.stopPropagation();
    zone.classList.remove("si-over");
    take(event.dataTransfer);
  };
}

export default { render };

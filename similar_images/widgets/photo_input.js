// One way in for photos: choose, drop or paste one. The browser shrinks it before it is sent, so that any camera's photo
// passes through the notebook's connection; it goes as a message, and so is never saved with the notebook.

function make(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}

async function shrunk(photo, side) {
  const bitmap = await createImageBitmap(photo, { imageOrientation: "from-image" });
  const scale = side / Math.max(bitmap.width, bitmap.height);
  if (scale >= 1) return photo;
  const canvas = make("canvas", {
    width: Math.max(1, Math.round(bitmap.width * scale)),
    height: Math.max(1, Math.round(bitmap.height * scale)),
  });
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.95));
}

function render({ model, el }) {
  const button = make("button", { type: "button", className: "jupyter-button", textContent: "Upload a photo" });
  const chooser = make("input", { type: "file", accept: "image/*", hidden: true });
  const hint = make("span", { className: "si-hint", textContent: "or drop or paste one here" });
  el.classList.add("si-input");
  el.tabIndex = 0;
  el.setAttribute("role", "group");
  el.setAttribute("aria-label", "Your photo: upload, drop or paste");
  el.dataset.lmSuppressShortcuts = "true"; // Ctrl+V here is not the notebook's
  el.append(button, chooser, hint);

  async function send(photo, name) {
    // What the browser can't decode, HEIC say, goes as it is: Python may be able to.
    const small = await shrunk(photo, model.get("longest_side")).catch(() => photo);
    if (small.size > model.get("most_bytes")) {
      model.send({ kind: "refused", name, megabytes: Math.round(small.size / 1e6) });
    } else {
      model.send({ kind: "photo", name }, undefined, [await small.arrayBuffer()]);
    }
  }

  function take(data) {
    const photo = [...data.files].find((file) => file.type.startsWith("image/")) ?? data.files[0];
    const address = (data.getData("text/uri-list") || data.getData("text/plain")).trim();
    if (photo) send(photo, photo.name || "pasted photo");
    else if (address) model.send({ kind: "address", address });
  }

  button.onclick = () => chooser.click();
  chooser.onchange = () => {
    if (chooser.files[0]) send(chooser.files[0], chooser.files[0].name);
    chooser.value = ""; // the same photo can be chosen again
  };
  el.onpaste = (event) => {
    event.preventDefault();
    event.stopPropagation();
    take(event.clipboardData);
  };
  el.ondragover = (event) => {
    event.preventDefault();
    el.classList.add("si-over");
  };
  el.ondragleave = () => el.classList.remove("si-over");
  el.ondrop = (event) => {
    event.preventDefault();
    event.stopPropagation();
    el.classList.remove("si-over");
    take(event.dataTransfer);
  };
}

export default { render };

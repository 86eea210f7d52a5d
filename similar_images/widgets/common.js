// What all of the widgets' modules begin with.

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function button(label, title, onclick, properties = {}) {
  return make("button", { type: "button", className: "si-button", textContent: label, title, onclick, ...properties });
}

// A picture that came as bytes of a message; the address made for it is given back once it is shown.
function show(image, bytes) {
  if (!bytes.byteLength) return image.removeAttribute("src");
  image.src = URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" }));
  image.onload = () => URL.revokeObjectURL(image.src);
}

// A name whose middle gives way where it is too long.
function shortened(name, className) {
  const tail = Math.min(10, Math.floor(name.length / 2));
  const parts = [name.slice(0, name.length - tail), name.slice(name.length - tail)];
  return make("span", { className: `si-name ${className}`, title: name }, ...parts.map((part) => make("span", { textContent: part })));
}

// Calls receivers[kind](content, buffers) for Python's messages, from the first that says what is shown now.
function receive(model, receivers) {
  const listener = (content, buffers) => receivers[content.kind]?.(content, buffers);
  model.on("msg:custom", listener);
  model.send({ kind: "ready" });
  return () => model.off("msg:custom", listener);
}

// Keys pressed inside are not the notebook's: it looks for this mark first of all on what has the focus.
function keepKeys(element) {
  element.addEventListener("focusin", (event) => (event.target.dataset.lmSuppressShortcuts = "true"));
}

// What Enter does in a text field; JupyterLab keeps the browser from submitting forms in outputs.
function onEnter(field, action) {
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing) return;
    event.preventDefault();
    action();
  });
}


// A single photo with its name; it reports to Python whether the page is dark.

function reportTheme(model, el) {
  if (!el.isConnected) return requestAnimationFrame(() => reportTheme(model, el));
  const [red, green, blue] = getComputedStyle(el).color.match(/\d+/g).map(Number);
  model.send({ kind: "theme", dark: red + green + blue > 3 * 128 });
}

function render({ model, el }) {
  const image = make("img");
  const caption = make("figcaption");
  el.classList.add("si-photo");
  el.append(make("figure", {}, image, caption));
  reportTheme(model, el);
  return receive(model, {
    photo({ name }, [bytes]) {
      image.alt = name;
      show(image, bytes);
      caption.replaceChildren(shortened(name, ""));
    },
  });
}

export default { render };

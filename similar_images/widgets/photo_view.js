// A single photo with its name; it tells Python whether the page is dark.

function tellTheme(model, el) {
  if (!el.isConnected) return requestAnimationFrame(() => tellTheme(model, el));
  const [red, green, blue] = getComputedStyle(el).color.match(/\d+/g).map(Number);
  model.send({ kind: "theme", dark: red + green + blue > 3 * 128 });
}

function render({ model, el }) {
  const image = make("img");
  const caption = make("figcaption");
  el.classList.add("si-photo");
  el.append(make("figure", {}, image, caption));
  tellTheme(model, el);
  return receive(model, {
    photo({ name }, [bytes]) {
      image.alt = name;
      show(image, bytes);
      caption.replaceChildren(shortened(name, ""));
    },
  });
}

export default { render };

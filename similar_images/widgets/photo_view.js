// A single photo with its name; it tells Python whether the page is dark.

function render({ model, el }) {
  const image = make("img");
  const caption = make("figcaption");
  el.classList.add("si-photo");
  el.append(make("figure", {}, image, caption));
  const brightness = getComputedStyle(el).color.match(/\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 3;
  model.send({ kind: "theme", dark: brightness > 128 });
  return receive(model, {
    photo({ name }, [bytes]) {
      image.alt = name;
      show(image, bytes);
      caption.replaceChildren(shortened(name, ""));
    },
  });
}

export default { render };

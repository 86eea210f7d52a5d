// The query: example photos, each with its selected part, and marked hits.

const STEP = 0.05;
const SMALLEST = 0.05; // of a side; what is less was a click
const MIDDLE = [0.2, 0.2, 0.8, 0.8];

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

// Selects a part of the picture on `stage`, by dragging or with the arrow keys; `done` receives the box.
function cropping(stage, box, done) {
  const frame = make("div", { className: "si-frame" });
  stage.append(frame);
  draw(box);

  function draw(edges) {
    frame.hidden = !edges;
    if (!edges) return;
    const [left, top, right, bottom] = edges.map((edge) => `${edge * 100}%`);
    Object.assign(frame.style, { left, top, width: `calc(${right} - ${left})`, height: `calc(${bottom} - ${top})` });
  }

  function place(event) {
    const area = stage.getBoundingClientRect();
    return [clamp((event.clientX - area.left) / area.width, 0, 1), clamp((event.clientY - area.top) / area.height, 0, 1)];
  }

  stage.onpointerdown = (event) => {
    if (event.pointerType === "touch" && !stage.classList.contains("si-selecting")) return; // a finger scrolls
    const [x, y] = place(event);
    const spanned = (to) => {
      const [u, v] = place(to);
      return [Math.min(x, u), Math.min(y, v), Math.max(x, u), Math.max(y, v)];
    };
    stage.setPointerCapture(event.pointerId);
    stage.onpointermove = (to) => draw(spanned(to));
    const end = () => (stage.onpointermove = stage.onpointerup = stage.onpointercancel = null);
    stage.onpointerup = (to) => {
      const [left, top, right, bottom] = spanned(to);
      end();
      if (right - left >= SMALLEST && bottom - top >= SMALLEST) done([left, top, right, bottom]);
      else draw(box);
    };
    stage.onpointercancel = () => {
      end();
      draw(box);
    };
    event.preventDefault();
    stage.focus();
  };

  let edges = box;
  stage.onkeydown = (event) => {
    const [dx, dy] = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] }[event.key] ?? [];
    if (dx !== undefined) {
      let [left, top, right, bottom] = edges ?? MIDDLE;
      if (event.shiftKey) {
        [right, bottom] = [clamp(right + dx, left + STEP, 1), clamp(bottom + dy, top + STEP, 1)];
      } else if (edges) {
        const [x, y] = [clamp(dx, -left, 1 - right), clamp(dy, -top, 1 - bottom)];
        [left, top, right, bottom] = [left + x, top + y, right + x, bottom + y];
      }
      draw((edges = [left, top, right, bottom]));
    } else if (event.key === "Enter" && edges) done(edges);
    else if (event.key === "Escape" && box) done(null);
    else if (event.key === "Escape") draw((edges = null));
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
}

function example({ name, box, reason }, at, count, bytes, model) {
  const stage = make("div", { className: "si-stage" });
  const buttons = make("div", { className: "si-row" });
  if (reason) stage.append(reason);
  else {
    const image = make("img", { alt: name, draggable: false });
    show(image, bytes);
    stage.append(image);
    Object.assign(stage, {
      tabIndex: 0,
      role: "group",
      ariaLabel: `${name}: drag to select a part, or use the arrow keys, Shift for its size, and Enter`,
      title: "drag to select a part",
    });
    cropping(stage, box, (edges) => model.send({ kind: "crop", at, box: edges }));
    const select = button("Select a part", "select a part with a finger", () => {
      select.ariaPressed = String(stage.classList.toggle("si-selecting"));
    });
    select.classList.add("si-for-touch");
    buttons.append(select);
  }
  if (box) buttons.append(button("Whole photo", "search for the whole photo again", () => model.send({ kind: "crop", at, box: null })));
  if (count > 1) buttons.append(button("Remove", `search without ${name}`, () => model.send({ kind: "remove", at })));
  return make("figure", { className: "si-example" }, stage, make("figcaption", {}, shortened(name, "si-asked")), buttons);
}

function mark({ row, name, relevant }, bytes, model) {
  const sign = relevant ? "more" : "less";
  const image = make("img", { alt: "" });
  show(image, bytes);
  const remove = button("✕", `remove: ${sign} like ${name}`, () => model.send({ kind: "mark", row, relevant }));
  remove.ariaLabel = remove.title;
  return make("li", { className: `si-mark si-${sign}`, title: `${sign} like ${name}` }, image, remove);
}

function render({ model, el }) {
  el.classList.add("si-question");
  keepKeys(el);
  return receive(model, {
    question({ examples, marks }, buffers) {
      el.hidden = !examples.length;
      const figures = examples.map((each, at) => example(each, at, examples.length, buffers[at], model));
      el.replaceChildren(make("h3", { textContent: "Query" }), ...figures);
      for (const relevant of [true, false]) {
        const items = [...marks.entries()]
          .filter(([, each]) => each.relevant === relevant)
          .map(([at, each]) => mark(each, buffers[examples.length + at], model));
        const label = relevant ? "More like" : "Less like";
        if (items.length) el.append(make("h3", { textContent: label }), make("ul", { className: "si-marked", ariaLabel: label }, ...items));
      }
    },
  });
}

export default { render };

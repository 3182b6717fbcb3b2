// Builds elements from values, and patches the page with them in place, so that focus, scroll and selection stay.

const SVG = new Set(["svg", "path", "rect", "line", "circle"]);

/** An element. Attributes that are null or false are left out; `draw(element)` fills it itself, and may return how to
 * take that away again. Children are nodes, texts, or arrays of them; null and false are left out. */
export function h(tag, attributes, ...children) {
  const node = SVG.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value == null || value === false) continue;
    if (name === "draw") {
      node.draw = value;
      node.setAttribute("data-draw", "");
    } else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return node;
}

/** Make `nodes` the children of `target`, changing as little as possible. */
export function show(target, ...nodes) {
  sync(target, nodes.flat(Infinity).filter((node) => node != null && node !== false));
}

function sync(parent, nodes) {
  nodes.forEach((fresh, index) => {
    if (!(fresh instanceof Node)) fresh = document.createTextNode(fresh);
    const old = parent.childNodes[index];
    if (!old) parent.append(fresh);
    else if (old.nodeName === fresh.nodeName && keyOf(old) === keyOf(fresh)) return patch(old, fresh);
    else {
      erase(old);
      old.replaceWith(fresh);
    }
    drawn(fresh).forEach(draw);
  });
  while (parent.childNodes.length > nodes.length) {
    erase(parent.lastChild);
    parent.lastChild.remove();
  }
}

function patch(old, fresh) {
  if (!(old instanceof Element)) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    // What the user has opened stays open.
    if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  if (fresh.draw) {
    old.draw = fresh.draw;
    draw(old);
  } else sync(old, [...fresh.childNodes]);
  if ("value" in old && old.value !== fresh.value && old !== document.activeElement) old.value = fresh.value;
  if ("checked" in old && old.checked !== fresh.checked) old.checked = fresh.checked;
}

function draw(element) {
  element.erase = element.draw(element) ?? element.erase;
}

const keyOf = (node) => node.dataset?.key;
const drawn = (node) => (node.querySelectorAll ? [node, ...node.querySelectorAll("[data-draw]")].filter((each) => each.draw) : []);
const erase = (node) => drawn(node).forEach((each) => each.erase?.());

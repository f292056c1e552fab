// Builds elements; whatever was typed or read becomes text, never markup.

export const byId = (id) => document.getElementById(id);

/** An element with attributes and children; a child that is null or false is left out. */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "colour") paint(node, value);
    else if (name === "on") for (const [kind, call] of Object.entries(value)) node.addEventListener(kind, call);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Gives a node the colour of a category: neighbours lie the golden angle apart, in three tones. */
function paint(node, index) {
  node.style.setProperty("--hue", (25 + index * 137.508) % 360);
  node.style.setProperty("--tone", ((index % 3) - 1) * 0.1);
}

export const swatch = (index) => element("i", { class: "swatch", colour: index, "aria-hidden": "true" });

export const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

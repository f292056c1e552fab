// Builds elements; whatever was typed or read becomes text, never markup.

export const byId = (id) => document.getElementById(id);

/** An element with attributes and children; a child that is null or false is left out. */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "hue") node.style.setProperty("--hue", value);
    else if (name === "on") for (const [kind, call] of Object.entries(value)) node.addEventListener(kind, call);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** A hue for each category index; neighbours lie the golden angle apart. */
export const hueOf = (index) => (25 + index * 137.508) % 360;

export const swatch = (index) => element("i", { class: "swatch", hue: hueOf(index), "aria-hidden": "true" });

export const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

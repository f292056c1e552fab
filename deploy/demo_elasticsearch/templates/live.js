// Searches both ways while the demo serves the page; a page opened as a file has nobody to ask.
const form = document.getElementById("live");
const answer = document.getElementById("answer");

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function column(title, rows) {
  const box = element("div", undefined, "box");
  const list = element("ol");
  rows.forEach((row, index) => {
    const line = element("li");
    const name = element("span", row.title);
    name.append(element("small", row.text));
    const marks = element("span");
    if (row.bought) marks.append(element("span", `${row.bought}×`, "own"), " ");
    const moved = title === "reranked" && row.was ? row.was - index - 1 : 0;
    if (moved > 0) marks.append(element("span", `▲ ${moved}`, "up"));
    if (moved < 0) marks.append(element("span", `▼ ${-moved}`, "down"));
    line.append(element("span", String(index + 1)), name, marks);
    list.append(line);
  });
  box.append(element("h3", title), list);
  return box;
}

async function search(event) {
  event.preventDefault();
  const asked = new URLSearchParams(new FormData(form));
  const response = await fetch(`api/search?${asked}`);
  const found = await response.json();
  answer.replaceChildren();
  if (!response.ok) {
    answer.append(element("p", found.error, "down"));
    return;
  }
  const orders = element("div", undefined, "orders");
  orders.append(column("Elasticsearch alone", found.retrieval), column("reranked", found.reranked));
  answer.append(element("p", `${found.purchases} purchases so far; both searches took ${found.took_ms} ms`), orders);
}

if (location.protocol !== "file:") {
  form.hidden = false;
  form.addEventListener("submit", search);
}

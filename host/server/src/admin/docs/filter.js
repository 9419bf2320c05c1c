// Shows the operations that have every word of the filter, and opens what a link leads to.
"use strict";
const filter = document.getElementById("filter");
const input = filter.querySelector("input");
filter.hidden = false;
input.addEventListener("input", () => {
  const words = input.value.toLowerCase().split(/\s+/);
  for (const section of document.querySelectorAll("section.tag")) {
    let shown = 0;
    for (const operation of section.querySelectorAll(".operation")) {
      const text = operation.textContent.toLowerCase();
      operation.hidden = !words.every((word) => text.includes(word));
      shown += operation.hidden ? 0 : 1;
    }
    section.hidden = shown === 0;
  }
});
const open = () => {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target && target.tagName === "DETAILS") target.open = true;
};
addEventListener("hashchange", open);
open();

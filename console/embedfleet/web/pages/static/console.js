// What HTML alone does not do: copy a text, stop looking while nobody watches, say that the server
// is away. Everything works without it but the copying and the renewing.
"use strict";

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const text = document.getElementById(button.dataset.copy).textContent;
  const say = (word) => {
    button.textContent = word;
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  };
  const select = () => {
    getSelection().selectAllChildren(document.getElementById(button.dataset.copy));
    say("Selected");
  };
  if (navigator.clipboard) navigator.clipboard.writeText(text).then(() => say("Copied"), select);
  else select();
});

document.addEventListener("htmx:beforeRequest", (event) => {
  const live = document.getElementById("live");
  const busy = live && live.contains(document.activeElement) && document.activeElement !== live;
  const choosing = !getSelection().isCollapsed;
  if (document.hidden || busy || choosing || live.querySelector("details[open]")) event.preventDefault();
});

const away = (isAway) => { document.getElementById("away").hidden = !isAway; };
document.addEventListener("htmx:sendError", () => away(true));
document.addEventListener("htmx:responseError", () => away(true));
document.addEventListener("htmx:afterSwap", () => away(false));

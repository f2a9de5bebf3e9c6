// The page: who is served, the key, the colours, and then the chat and the picture.

import { ask, keep } from "./asking.js";
import { Chat } from "./chat.js";
import { Memories } from "./memories.js";

const THEME = "twofold-theme";
const at = (id) => document.getElementById(id);

function coloured(theme) {
  document.documentElement.dataset.theme = theme;
  at("theme").value = theme;
}

function askForKey() {
  at("key-form").hidden = false;
  at("key").focus();
}

async function greet() {
  try {
    const { data } = await (await ask("v1/models")).json();
    at("model").textContent = data[0].id;
    at("key-form").hidden = true;
    return true;
  } catch (error) {
    at("model").textContent = error.message;
    if (error.status === 401) askForKey();
    return false;
  }
}

coloured(localStorage.getItem(THEME) ?? "");
at("theme").addEventListener("change", ({ target }) => {
  localStorage.setItem(THEME, target.value);
  coloured(target.value);
});

let memories = null;

async function start() {
  if (await greet()) memories ??= new Memories();
}

at("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  keep(at("key").value);
  await start();
  if (at("key-form").hidden) at("prompt").focus();
});

new Chat(askForKey);
await start();
if (at("key-form").hidden) at("prompt").focus();

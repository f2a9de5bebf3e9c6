// The conversation: what was said, and the answer that is on its way.

import { ask, events } from "./asking.js";

const at = (id) => document.getElementById(id);
const ENDS = { length: "It was cut off at the most tokens that were asked for.", cancelled: "The server ended it." };
const EMPTY = "The conversation is empty.";

export class Chat {
  constructor(onRefused) {
    this.messages = [];
    this.onRefused = onRefused;
    this.going = null; // what stops the answer on its way
    at("chat").addEventListener("submit", (event) => this.submit(event));
    at("prompt").addEventListener("keydown", (event) => this.typed(event));
    at("stop").addEventListener("click", () => this.going?.abort());
    at("clear").addEventListener("click", () => this.clear());
  }

  typed(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    at("chat").requestSubmit();
  }

  clear() {
    this.going?.abort();
    this.messages = [];
    at("talk").replaceChildren();
    at("alert").textContent = "";
    at("state").textContent = EMPTY;
    at("prompt").focus();
  }

  submit(event) {
    event.preventDefault();
    const text = at("prompt").value;
    if (this.going || !text.trim()) return;
    at("prompt").value = "";
    this.messages.push({ role: "user", content: text });
    said("user", "You").answer.textContent = text;
    this.answer(text);
  }

  async answer(text) {
    const messages = this.messages; // clearing puts others in their place
    const shown = said("assistant", "Model");
    const reply = { role: "assistant", content: "" };
    this.going = new AbortController();
    this.busy(true);
    try {
      at("state").textContent = await this.stream(messages, reply, shown);
    } catch (error) {
      this.ended(error);
    }
    if (reply.content) messages.push(reply);
    else if (messages === this.messages) this.takeBack(text);
    this.going = null;
    this.busy(false);
    if (messages !== this.messages) at("state").textContent = EMPTY;
  }

  async stream(messages, reply, shown) {
    const start = performance.now();
    const body = JSON.stringify({ ...asked(), messages: [...system(), ...messages] });
    const response = await ask("v1/chat/completions", { method: "POST", body, signal: this.going.signal });
    let finish = "";
    let tokens = 0;
    for await (const event of events(response)) {
      const choice = event.choices[0];
      tokens = event.usage?.completion_tokens ?? tokens;
      if (!choice) continue;
      finish = choice.finish_reason ?? finish;
      const low = isLow();
      shown.thought.append(choice.delta.reasoning_content ?? "");
      shown.answer.append(choice.delta.content ?? "");
      reply.content += choice.delta.content ?? "";
      if (low) at("talk").scrollTop = at("talk").scrollHeight;
    }
    const seconds = (performance.now() - start) / 1000;
    return `${tokens} tokens in ${seconds.toFixed(1)} s. ${ENDS[finish] ?? ""}`.trim();
  }

  // Nothing was answered: the message leaves the conversation, and can be sent again unless another is being written.
  takeBack(text) {
    this.messages.pop();
    at("talk").lastElementChild.remove();
    at("talk").lastElementChild.remove();
    at("prompt").value ||= text;
  }

  ended(error) {
    at("state").textContent = error.name === "AbortError" ? "Stopped." : "";
    if (error.name === "AbortError") return;
    at("alert").textContent = error.message;
    if (error.status === 401) this.onRefused();
  }

  busy(is) {
    const on = is ? at("send") : at("stop");
    const moves = document.activeElement === on; // a button that is turned off loses the focus
    at("send").disabled = is;
    at("stop").disabled = !is;
    if (moves) (is ? at("stop") : at("prompt")).focus();
    at("talk").setAttribute("aria-busy", is); // an answer is read out once, when it is whole
    if (is) {
      at("alert").textContent = "";
      at("state").textContent = "Answering…";
    }
  }
}

// Whether the end of the conversation is in sight; who reads further up is left there.
function isLow() {
  const talk = at("talk");
  return talk.scrollHeight - talk.scrollTop - talk.clientHeight < 40;
}

function asked() {
  return {
    stream: true,
    stream_options: { include_usage: true },
    temperature: at("temperature").valueAsNumber || 0,
    max_tokens: at("max-tokens").valueAsNumber || null,
  };
}

function system() {
  const content = at("system").value.trim();
  return content ? [{ role: "system", content }] : [];
}

function said(role, name) {
  const item = document.createElement("li");
  const who = document.createElement("b");
  const thought = document.createElement("p");
  const answer = document.createElement("p");
  item.className = role;
  who.textContent = name;
  thought.className = "thought";
  item.append(who, thought, answer);
  at("talk").append(item);
  at("talk").scrollTop = at("talk").scrollHeight;
  return { item, thought, answer };
}

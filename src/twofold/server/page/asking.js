// Requests to this server, with the key that this tab was given, and errors in words.

const KEY = "twofold-key";

export class Failure extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export function keep(key) {
  sessionStorage.setItem(KEY, key);
}

export async function ask(path, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = { "Content-Type": "application/json", ...(key && { Authorization: `Bearer ${key}` }) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("The server cannot be reached; is it still running?", 0);
  }
  if (!response.ok) throw new Failure(await words(response), response.status);
  return response;
}

async function words(response) {
  const text = await response.text();
  try {
    return sentence(JSON.parse(text).error.message);
  } catch {
    return `The server answered ${response.status} and did not say why.`;
  }
}

function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}

// The events of an answer that streams; a Failure for an error in their midst.
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new Failure("The answer broke off: the server has closed the connection.", 0);
    const blocks = (held + value).split("\n\n");
    held = blocks.pop();
    for (const block of blocks) {
      if (!block.startsWith("data: ")) continue;
      const data = block.slice("data: ".length);
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new Failure(sentence(event.error.message), 200);
      yield event;
    }
  }
}

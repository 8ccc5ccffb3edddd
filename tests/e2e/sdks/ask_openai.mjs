// Asks by the SDK of OpenAI for JavaScript, as tests/e2e/sdks/sdk.py says.
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import OpenAI from "openai";

async function ask({ url, delay, tries }) {
  const options = tries === undefined ? {} : { maxRetries: tries };
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "key", ...options });
  await sleep(1000 * delay);
  const begun = performance.now();
  const seconds = () => (performance.now() - begun) / 1000;
  try {
    const answer = await client.chat.completions.create({
      model: "demo", messages: [{ role: "user", content: "Hello" }], max_tokens: 8,
    });
    return { tokens: answer.usage.completion_tokens, seconds: seconds() };
  } catch (error) {
    return { error: String(error), seconds: seconds() };
  }
}

console.log("ready");
await once(process.stdin, "data");
console.log(JSON.stringify(await Promise.all(JSON.parse(process.argv[2]).map(ask))));
process.exit(0);

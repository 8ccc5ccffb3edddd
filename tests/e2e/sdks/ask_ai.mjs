// Asks by Vercel's AI SDK, as tests/e2e/sdks/sdk.py says.
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText } from "ai";

async function ask({ url, delay, tries }) {
  const options = tries === undefined ? {} : { maxRetries: tries };
  const provider = createOpenAICompatible({ name: "demo", baseURL: `${url}/v1`, apiKey: "key" });
  await sleep(1000 * delay);
  const begun = performance.now();
  const seconds = () => (performance.now() - begun) / 1000;
  try {
    const answer = await generateText({
      model: provider("demo"), messages: [{ role: "user", content: "Hello" }], maxOutputTokens: 8, ...options,
    });
    return { tokens: answer.usage.outputTokens, seconds: seconds() };
  } catch (error) {
    return { error: String(error), seconds: seconds() };
  }
}

console.log("ready");
await once(process.stdin, "data");
console.log(JSON.stringify(await Promise.all(JSON.parse(process.argv[2]).map(ask))));
process.exit(0);

// Asks a server with each client of JavaScript, and prints what each one has: [index, score] of the documents, best
// first, or its error.
//     node rerank.js URL KEY QUERY DOCUMENTS-IN-JSON TOP
import { createCohere } from "@ai-sdk/cohere";
import { createTogetherAI } from "@ai-sdk/togetherai";
import { createVoyage } from "@ai-sdk/voyage";
import { CohereRerank } from "@langchain/cohere";
import { rerank } from "ai";
import { CohereClient, CohereClientV2 } from "cohere-ai";
import { VoyageAIClient } from "voyageai";

const [url, key, query, texts, top] = process.argv.slice(2);
const documents = JSON.parse(texts);
const topN = Number(top);
globalThis.AI_SDK_LOG_WARNINGS = false;

const cohere = { token: key, environment: url, maxRetries: 0 };
const ofResult = (result) => [result.index, result.relevanceScore];
const ofRanking = ({ ranking }) => ranking.map(({ originalIndex, score }) => [originalIndex, score]);
const withModel = (provider) => rerank({ model: provider.reranking("m"), query, documents, topN, maxRetries: 0 });

const clients = {
  "cohere-ai, version 2": async () =>
    (await new CohereClientV2(cohere).rerank({ model: "m", query, documents, topN })).results.map(ofResult),
  "cohere-ai, version 1": async () =>
    (await new CohereClient(cohere).rerank({ model: "m", query, documents, topN })).results.map(ofResult),
  "@langchain/cohere": async () =>
    (await new CohereRerank({ client: new CohereClient(cohere), model: "m", topN }).rerank(documents, query)).map(
      ofResult,
    ),
  voyageai: async () => {
    const client = new VoyageAIClient({ apiKey: key, environment: `${url}/v1`, maxRetries: 0 });
    return (await client.rerank({ model: "m", query, documents, topK: topN })).data.map(ofResult);
  },
  "ai, cohere": async () => ofRanking(await withModel(createCohere({ baseURL: `${url}/v2`, apiKey: key }))),
  "ai, voyage": async () => ofRanking(await withModel(createVoyage({ baseURL: `${url}/v1`, apiKey: key }))),
  "ai, togetherai": async () => ofRanking(await withModel(createTogetherAI({ baseURL: `${url}/v1`, apiKey: key }))),
};

const found = {};
for (const [name, ask] of Object.entries(clients)) {
  found[name] = await ask().catch((error) => ({ error: error.name, status: error.statusCode }));
}
console.log(JSON.stringify(found));

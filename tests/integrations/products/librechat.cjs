// LibreChat's own reranker: node librechat.cjs FOLDER_OF_THE_PACKAGE QUERY DOCUMENTS, settings in the environment.
const path = require("path");
const [folder, query, documents] = process.argv.slice(2);
const { createReranker } = require(path.join(folder, "dist/cjs/tools/search/rerankers.cjs"));

const reranker = createReranker({
  rerankerType: process.env.RERANKER_TYPE,
  jinaApiKey: process.env.JINA_API_KEY,
  jinaApiUrl: process.env.JINA_API_URL,
  logger: { debug() {}, info() {}, warn() {}, error: console.error },
});
const texts = JSON.parse(documents);
reranker.rerank(query, texts, texts.length).then((highlights) => console.log(JSON.stringify(highlights)));

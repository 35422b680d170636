-- The saturated load of `modernrank bench serve` with a tool of others: one short document in a request.
--   wrk --threads 1 --connections 8 --duration 10s --latency --script benchmarks/wrk_rerank.lua http://127.0.0.1:8080/rerank
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.body = '{"query": "play music in a terminal", "documents": ["Terminal music player with playlists and gapless playback."]}'

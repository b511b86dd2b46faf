// SPDX-License-Identifier: MIT
//
// A peer for lfm-bench: llama.cpp as npm's node-llama-cpp ships it, compiled for this CPU.
//
//     npm install --ignore-scripts --prefix DIR node-llama-cpp@3.22.1
//     NODE_LLAMA=DIR lfm-bench --model F --peer "node bench/peer_llama.mjs"
//
// Options and the JSON on stdout are those of lfm-bench: --model -p -n -d -t --json.

import {createRequire} from "node:module";
import {pathToFileURL} from "node:url";
import {readFileSync} from "node:fs";
import path from "node:path";

const options = {"--model": "", "-p": "512", "-n": "32", "-d": "0", "-t": "0"};
for (let i = 2; i < process.argv.length; i++) {
    if (process.argv[i] === "--json")
        continue;
    options[process.argv[i]] = process.argv[++i];
}
const [nPrefill, nDecode, depth, threads] = ["-p", "-n", "-d", "-t"].map((o) => Number(options[o]));

const require = createRequire(path.resolve(process.env.NODE_LLAMA ?? ".", "package.json"));
const {getLlama, LlamaLogLevel} =
    await import(pathToFileURL(require.resolve("node-llama-cpp")).href);

const llama = await getLlama({
    gpu: false, build: "never", logLevel: LlamaLogLevel.error,
    ...(threads ? {maxThreads: threads} : {})
});
const start = performance.now();
const model = await llama.loadModel({modelPath: options["--model"], gpuLayers: 0});
const context = await model.createContext({
    contextSize: Math.max(2048, nPrefill, depth + nDecode) + 8,
    batchSize: 512,
    ...(threads ? {threads} : {})
});
const loaded = (performance.now() - start) / 1000;
const sequence = context.getSequence();
const tokens = (n) => Array.from({length: n}, (_, i) => (i * 7919 + 13) % 60000 + 1000);
const result = {model: options["--model"], threads, load_s: loaded};

if (nPrefill > 0) {
    await sequence.evaluateWithoutGeneratingNewTokens(tokens(64)); // first touch of every page
    await sequence.clearHistory();
    const begin = performance.now();
    await sequence.evaluateWithoutGeneratingNewTokens(tokens(nPrefill));
    result.prefill_tps = nPrefill * 1000 / (performance.now() - begin);
    await sequence.clearHistory();
}
if (nDecode > 0) {
    if (depth > 0)
        await sequence.evaluateWithoutGeneratingNewTokens(tokens(depth));
    let begin = 0, n = 0;
    for await (const token of sequence.evaluate([1], {temperature: 0, yieldEogToken: true})) {
        if (n === 0)
            begin = performance.now(); // the first step warms up
        if (n++ === nDecode)
            break;
    }
    result.decode_tps = (n - 1) * 1000 / (performance.now() - begin);
}
const peak = /VmHWM:\s+(\d+) kB/.exec(readFileSync("/proc/self/status", "utf8"));
result.rss_mb = Number(peak[1]) * 1024 / 1e6;
console.log(JSON.stringify(result));
process.exit(0);

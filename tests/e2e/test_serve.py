"""A real server on two emulated NPUs, asked by the official client and by hostile ones."""

from __future__ import annotations

import gzip
import json
import os
import re
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.command import Command
from tests.e2e.conftest import COMMAND
from tests.e2e.departures import DEPARTURES, TOKENS, Departure
from tests.e2e.hostile import Attack, attacks
from tests.e2e.metrics import counters
from tests.e2e.shapes import ANSWERED, COMPLETIONS, MIXED, STREAMED, streamed, wrong_answers
from tests.patience import PATIENCE_SECONDS, wait_until

KEY = "the-key-of-this-test"
BEARER = {"Authorization": f"Bearer {KEY}"}
SERVES = ("haproxy", "ray::HAProxyMan", "ray::ProxyActor", "ray::ServeRepli")
"""What Serve has for HTTP."""
GREETING: list[Any] = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the ranks write their traces."""
    return tmp_path_factory.mktemp("traces")


@pytest.fixture(scope="module")
def server(start: Callable[..., Command], traces: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"another-key\n{KEY}\n")
    profiler = f"vllm.profiler_config={{profiler: torch, torch_profiler_dir: {traces}}}"
    yield from start(f"serving.api_key_file={keys}", profiler).serving()


@pytest.fixture(scope="module")
def client(server: Command) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key=KEY, max_retries=0)


@pytest.fixture(scope="module")
def http(server: Command) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=PATIENCE_SECONDS, headers=BEARER) as client:
        yield client


def test_nothing_is_counted_before_anybody_asks(http: httpx.Client) -> None:
    counted = counters(http)
    assert "vllm:generation_tokens_total" in counted
    assert {name: value for name, value in counted.items() if value and name.startswith(("vllm:", "http_"))} == {}


def test_every_request_and_every_token_is_counted(client: openai.OpenAI, http: httpx.Client) -> None:
    before = counters(http)
    usages = [
        client.chat.completions.create(model="demo", messages=GREETING, max_tokens=tokens).usage
        for tokens in (5, 1, 20)
    ]
    usages.append(client.completions.create(model="demo", prompt="Hello", max_tokens=7).usage)
    *_, last = client.chat.completions.create(
        model="demo", messages=GREETING, max_tokens=9, stream=True, stream_options={"include_usage": True}
    )
    usages.append(last.usage)
    refused = [
        http.post("/v1/completions", json={"model": "demo", "prompt": "x", "max_tokens": -1}),
        http.post("/v1/completions", headers={"Authorization": "Bearer wrong"}),
        http.post("/v1/completions", content=b"x" * (8 * 2**20 + 1)),
        http.get("/no/such"),
    ]
    assert [answer.status_code for answer in refused] == [400, 401, 413, 404]

    def grown() -> Counter[str]:
        return Counter(counters(http)) - Counter(before)

    # A request is counted once its answer has left, which its client need not wait for.
    assert wait_until(lambda: grown()["http_requests_total"] == len(usages) + len(refused)), grown()
    assert grown()["http_request_duration_seconds_count"] == len(usages) + len(refused)
    assert grown()["vllm:request_success_total"] == len(usages)
    assert grown()["vllm:generation_tokens_total"] == sum(usage.completion_tokens for usage in usages if usage)
    assert grown()["vllm:prompt_tokens_total"] == sum(usage.prompt_tokens for usage in usages if usage)


def test_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="demo", messages=GREETING, max_tokens=8, temperature=0)
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8


def test_a_stream_brings_the_same_text_in_pieces(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="demo", messages=GREETING, max_tokens=8, temperature=0)
    stream = client.chat.completions.create(model="demo", messages=GREETING, max_tokens=8, temperature=0, stream=True)
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
    assert len(pieces) > 2
    assert "".join(pieces) == whole.choices[0].message.content


def test_completions_of_several_prompts(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="demo", prompt=["a", "b", "c"], max_tokens=4, temperature=0, logprobs=1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert all(choice.logprobs for choice in answer.choices)


def test_answers_do_not_depend_on_the_batch(client: openai.OpenAI) -> None:
    def ask(prompt: str) -> str:
        return client.completions.create(model="demo", prompt=prompt, max_tokens=12, temperature=0).choices[0].text

    prompts = [f"count {number}" for number in range(8)]
    alone = [ask(prompt) for prompt in prompts]
    with ThreadPoolExecutor(len(prompts)) as pool:
        assert list(pool.map(ask, prompts)) == alone


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["demo"]


def test_an_unknown_model_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="nobody"):
        client.chat.completions.create(model="nobody", messages=GREETING)


def test_a_prompt_that_is_too_long_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="256"):
        client.completions.create(model="demo", prompt="long " * 1000, max_tokens=4)


def test_tokenize_and_detokenize(http: httpx.Client) -> None:
    tokens = http.post("/tokenize", json={"model": "demo", "prompt": "Hello"}).json()["tokens"]
    assert http.post("/detokenize", json={"model": "demo", "tokens": tokens}).json()["prompt"] == "Hello"


@pytest.mark.parametrize("path", ["/health", "/version", "/openapi.json"])
def test_answers_what_vllm_serve_answers(http: httpx.Client, path: str) -> None:
    assert http.get(path).status_code == 200


def test_metrics_are_those_of_vllm_and_of_the_capture_group(http: httpx.Client) -> None:
    text = http.get("/metrics").text
    assert "vllm:generation_tokens_total" in text
    assert 'ascend_serve_graph_outcome{outcome="graph"} 1.0' in text
    assert 'ascend_serve_graphs{rank="1"} 3.0' in text


def test_steps_tokens_and_padding_are_counted_exactly(http: httpx.Client) -> None:
    """A prompt is a step that runs eager; three that decode together replay the graph for four."""
    body = {"model": "demo", "prompt": "a b", "max_tokens": 20, "ignore_eos": True, "temperature": 0}
    before = steps(http)
    usage = http.post("/v1/completions", json=body).json()["usage"]
    one = Counter(steps(http)) - Counter(before)
    assert one == {
        ("steps", "mixed", "eager", ""): 1,
        ("step_tokens", "mixed", "eager", ""): usage["prompt_tokens"],
        ("steps", "decode", "exact", "1"): 19,
        ("step_tokens", "decode", "exact", "1"): 19,
    }
    before = steps(http)
    together = {**body, "prompt": ["a b"] * 3, "max_tokens": 200}
    assert http.post("/v1/completions", json=together).status_code == 200
    three = Counter(steps(http)) - Counter(before)
    # Which of the three come into a step with the prompt of another is a matter of time; what they add up to is not.
    decoded = {size: count for (name, kind, _, size), count in three.items() if (name, kind) == ("steps", "decode")}
    assert set(decoded) <= {"1", "2", "4"}
    assert decoded["4"] > 0
    tokens = {kind: _sum(three, "step_tokens", kind) for kind in ("mixed", "decode")}
    assert sum(tokens.values()) == 3 * (usage["prompt_tokens"] + 199)
    padding = _sum(three, "padding_tokens", "decode")
    assert tokens["decode"] + padding == sum(int(size) * count for size, count in decoded.items())


def _sum(counted: Counter[tuple[str, ...]], metric: str, kind: str) -> float:
    return sum(count for (name, of, *_), count in counted.items() if (name, of) == (metric, kind))


def steps(http: httpx.Client) -> dict[tuple[str, ...], float]:
    """What is counted of steps, by metric, kind, replay and size."""
    return {
        (
            family.name.removeprefix("ascend_serve_"),
            *(sample.labels[name] for name in ("kind", "replay", "size")),
        ): sample.value
        for family in text_string_to_metric_families(http.get("/metrics").text)
        for sample in family.samples
        if "replay" in sample.labels and sample.name.endswith("_total")
    }


def test_the_page_and_its_stream(http: httpx.Client) -> None:
    page = http.get("/graph")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "graph: all that was asked for" in page.text
    assert page.text.count('title="held by all ranks"') == 3
    with http.stream("GET", "/graph/stream") as stream:
        told = next(line for line in stream.iter_lines() if line.startswith("data: "))
    assert "It serves." in json.loads(told.removeprefix("data: "))["state"]
    unknown = httpx.get(str(http.base_url.join("/graph")))
    assert unknown.status_code == 401
    assert unknown.headers["WWW-Authenticate"].startswith("Basic")


def test_report(http: httpx.Client) -> None:
    report = http.get("/graph/report").json()
    assert report["outcome"] == "graph"
    assert report["requested_mode"] == report["effective_mode"] == "FULL_DECODE_ONLY"
    assert report["runtime"] == "aclgraph"
    assert report["capture_sizes"] == [1, 2, 4]
    assert report["adjustments"] == []
    assert [(rank["rank"], rank["graphs"]) for rank in report["ranks"]] == [(0, 3), (1, 3)]
    assert len({rank["pid"] for rank in report["ranks"]}) == 2
    assert {"replica_process", "engine", "capture", "warm_up", "total"} <= report["seconds"].keys()
    assert {event["kind"] for event in report["events"]} >= {"joined", "agreed", "captured", "sealed"}


def test_its_commands_tell_where_it_stands(http: httpx.Client) -> None:
    """From another process, which knows nothing but the cluster."""
    (deployment,) = json.loads(told("status", "--json"))["deployments"]
    (replica,) = deployment["replicas"]
    assert (deployment["name"], deployment["state"], replica["state"]) == ("demo", "RUNNING", "serving")
    assert replica["report"]["capture_sizes"] == [1, 2, 4]
    assert replica["load"]["running"] == 0
    report = json.loads(told("report", "demo", "--json"))
    assert [rank["state"] for rank in report["ranks"]] == ["sealed", "sealed"]
    kept = [json.loads(line)["kind"] for line in Path(replica["event_file"]).read_text().splitlines()]
    assert http.get("/graph/events").text == Path(replica["event_file"]).read_text()
    assert kept == [event["kind"] for event in report["events"]]
    assert kept[0] == "started"
    assert "ready" in kept
    pid = report["ranks"][1]["pid"]
    assert f"process {pid} on 127.0.0.1" in told("logs", "demo", "--rank", "1", "--lines", "5")


def told(*words: str) -> str:
    """What a command prints."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run([*COMMAND, *words], check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_profile_writes_a_trace_of_every_rank(server: Command, traces: Path) -> None:
    url = f"http://127.0.0.1:{server.port}"
    done = subprocess.run(
        [*COMMAND, "profile", "--url", url],
        env={**os.environ, "VLLM_API_KEY": KEY},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    named = re.findall(rf"^  ({re.escape(str(traces))}/\S+)$", done.stdout, re.MULTILINE)
    assert sorted(named) == sorted(map(str, traces.glob("*.pt.trace.json.gz")))
    assert re.search(rf"^ranks 0, 1 wrote to {re.escape(str(traces))} on \S+$", done.stdout, re.MULTILINE)
    of_ranks = [gzip.decompress(Path(name).read_bytes()) for name in named if "/rank" in name]
    assert len(of_ranks) == 2
    assert all(b"aten::" in text for text in of_ranks)


@pytest.mark.parametrize("departure", DEPARTURES, ids=str)
def test_a_client_that_goes_ends_its_request(http: httpx.Client, departure: Departure) -> None:
    assert departure.tokens(http, BEARER) < TOKENS


def test_nothing_answers_http_but_on_the_loopback_interface(server: Command) -> None:
    server.look()
    ports = {
        connection.laddr.port
        for process in server.processes()
        if process.name().startswith(SERVES)
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert server.port in ports
    addresses = (address for interface in psutil.net_if_addrs().values() for address in interface)
    others = {address.address for address in addresses if address.family == socket.AF_INET} - {"127.0.0.1"}
    places = [(host, port) for host in {"127.0.0.2", *others} for port in ports]
    with ThreadPoolExecutor(len(places)) as pool:
        assert [place for place, answers in zip(places, pool.map(answers_http, places), strict=True) if answers] == []
        assert answers_http(("127.0.0.1", server.port))


def test_nothing_listens_but_on_the_loopback_interface(server: Command) -> None:
    server.look()
    listening = {
        (process.name(), connection.laddr.ip)
        for process in [*server.processes(), psutil.Process(server.process.pid)]
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening
    # Serve has a port in each replica for other deployments, which asks for Ray's token.
    assert {name.partition(":demo")[0] for name, ip in listening if not _is_loopback(ip)} <= {"ray::ServeReplica"}


def _is_loopback(address: str) -> bool:
    ip = ip_address(address)
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user")
def test_another_user_of_the_machine_gets_at_no_file(server: Command) -> None:
    """Beside the folder of the deployment, whose place is open to all as the folder for temporary files is."""
    assert len(list(server.temporary.iterdir())) == 1
    another = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    command = [*another, "find", str(server.temporary), "-mindepth", "2"]
    found = subprocess.run(command, check=False, capture_output=True, text=True)
    assert "Permission denied" in found.stderr
    assert found.stdout == ""


def answers_http(place: tuple[str, int]) -> bool:
    """Whether the application answers there, by whatever way."""
    try:
        return httpx.get(f"http://{place[0]}:{place[1]}/health", trust_env=False, timeout=5).is_success
    except httpx.TransportError:
        return False


def test_doctor_looks_into_the_cluster_of_the_server(server: Command) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [*COMMAND, "doctor", "--json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    told = json.loads(done.stdout)
    connection = next(line for line in told["cluster"] if line["check"] == "connection")
    assert connection["status"] == "ok", connection
    assert [node["address"] for node in told["nodes"]] == ["127.0.0.1"]


def test_bench_measures_the_server(server: Command, tmp_path: Path) -> None:
    keys, output = tmp_path / "keys", tmp_path / "bench.json"
    keys.write_text(KEY)
    options = ["--clients=1", "--clients=3", "--requests=4", "--input-tokens=8", "--output-tokens=4"]
    result = bench(server, *options, f"--api-key-file={keys}", f"--output={output}")
    assert result.returncode == 0, result.stderr
    measured = json.loads(output.read_text())
    assert (measured["model"], measured["report"]["effective_mode"]) == ("demo", "FULL_DECODE_ONLY")
    assert [(load["clients"], load["requests"], load["failed"], load["tokens"]) for load in measured["loads"]] == [
        (1, 4, 0, 16),
        (3, 4, 0, 16),
    ]
    assert all(load["tpot_p50_ms"] > 0 and 0 < load["ttft_p50_ms"] <= load["ttft_p99_ms"] for load in measured["loads"])
    assert "mode FULL_DECODE_ONLY (aclgraph, 2 ranks), capture sizes 1 2 4" in result.stdout
    assert KEY not in result.stdout + result.stderr + output.read_text()


def test_bench_without_the_key_is_told_so(server: Command) -> None:
    result = bench(server)
    assert result.returncode == 2
    assert "asks for an API key" in result.stderr
    assert "--api-key-file" in result.stderr
    assert "Traceback" not in result.stderr


def bench(server: Command, *options: str) -> subprocess.CompletedProcess[str]:
    url = f"http://127.0.0.1:{server.port}"
    environment = {key: value for key, value in os.environ.items() if key != "VLLM_API_KEY"}
    return subprocess.run(
        [*COMMAND, "bench", url, *options],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=PATIENCE_SECONDS,
    )


def test_the_output_tells_phases_and_result(server: Command) -> None:
    text = server.text()
    assert re.findall(r"^(cluster|load|agree|capture|warm-up): [\d.]+ s", text, re.MULTILINE)[:2] == ["cluster", "load"]
    assert re.search(r"mode +FULL_DECODE_ONLY", text)
    assert "Traceback" not in text


def test_the_curl_line_works_when_pasted(server: Command) -> None:
    line = server.wait_for("curl ")
    shell = {**os.environ, "VLLM_API_KEY": KEY}
    answer = subprocess.run(f"{line} --silent --fail", shell=True, env=shell, check=True, capture_output=True)
    assert json.loads(answer.stdout)["choices"][0]["message"]["role"] == "assistant"


def test_a_second_server_on_the_port_is_refused_before_anything_starts(
    server: Command, start: Callable[..., Command]
) -> None:
    second = start(f"serving.port={server.port}")
    assert second.process.wait(timeout=PATIENCE_SECONDS) == 1
    assert f"serving.port {server.port}: Address already in use" in second.text()
    assert "logs:" not in second.text()


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="no key"),
        pytest.param({"Authorization": "Bearer wrong"}, id="a wrong key"),
        pytest.param({"Authorization": f"Bearer {KEY}x"}, id="a longer key"),
        pytest.param({"Authorization": KEY}, id="no scheme"),
    ],
)
def test_every_route_but_health_asks_for_a_key(server: Command, http: httpx.Client, headers: dict[str, str]) -> None:
    paths = [*http.get("/openapi.json").json()["paths"], "/metrics", "/docs", "/openapi.json", "/no/such"]
    with httpx.Client(base_url=http.base_url, timeout=PATIENCE_SECONDS, headers=headers) as stranger:
        answers = {path: stranger.request(method, path).status_code for path in paths for method in ("GET", "POST")}
        assert stranger.get("/health").status_code == 200
    open_to_strangers = {path for path, status in answers.items() if status != 401}
    assert open_to_strangers == {"/health"}


def test_keys_are_neither_printed_nor_in_a_process_list(server: Command) -> None:
    server.look()
    assert KEY not in server.text()
    assert [line for line in server.command_lines() if KEY in line] == []
    logs = re.search(r"^logs: (.+)$", server.text(), re.MULTILINE)
    assert logs is not None
    telling = [file for file in Path(logs[1]).rglob("*") if file.is_file() and KEY.encode() in file.read_bytes()]
    assert telling == []


def test_odd_requests_have_their_right_answers(http: httpx.Client) -> None:
    assert list(wrong_answers(http)) == []
    assert len(ANSWERED) + len(STREAMED) >= 50


def test_a_stream_brings_the_bytes_of_many_scripts_whole(http: httpx.Client) -> None:
    body = {"model": "demo", "prompt": MIXED, "max_tokens": 40, "temperature": 0}
    _, content = streamed(http, COMPLETIONS, body)
    assert content["choices"][0]["text"] == http.post(COMPLETIONS, json=body).json()["choices"][0]["text"]


def test_hostile_requests_are_refused_and_nobody_else_notices(http: httpx.Client) -> None:
    quiet = _reference(http)
    with _steady_client(http) as others, ThreadPoolExecutor(4) as pool:
        table = list(attacks())
        answers = pool.map(lambda attack: _attack(http, attack), table)
        harm = {f"{attack.path} {attack.name}": answer for attack, answer in zip(table, answers, strict=True) if answer}
    assert harm == {}
    assert len(table) >= 200
    assert others
    assert set(others) == {quiet}
    assert _reference(http) == quiet


def _attack(http: httpx.Client, attack: Attack) -> str:
    """What happened, where it was no refusal of the request."""
    try:
        answer = http.request(
            attack.method, attack.path, content=attack.body, headers=attack.headers, timeout=PATIENCE_SECONDS
        )
    except httpx.HTTPError as error:
        return repr(error)
    return "" if 400 <= answer.status_code < 500 else f"{answer.status_code} {answer.text[:200]}"


def _reference(http: httpx.Client) -> str:
    body = {"model": "demo", "prompt": "Hello", "max_tokens": 16, "temperature": 0, "logprobs": 1}
    answer = http.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    return json.dumps(answer.json()["choices"][0]["logprobs"]["tokens"])


@contextmanager
def _steady_client(http: httpx.Client) -> Iterator[list[str]]:
    """A client that asks the same thing all the time; its answers."""
    answers: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            answers.append(_reference(http))

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            yield answers
        finally:
            stop.set()
            asking.result()

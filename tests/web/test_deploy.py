"""What `deploy/` holds, as far as it can be tried without a container engine."""

from __future__ import annotations

import ipaddress
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import without_engine
import yaml

from melascope.web.security import digest_of
from melascope.web.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
STAGES = without_engine.stages((DEPLOY / "Containerfile").read_text())
IMAGE = STAGES[-1]
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def bytes_of(size: str) -> int:
    """As Caddy reads it."""
    number, unit = re.fullmatch(r"(\d+)(\w+)", size).groups()
    return int(number) * {"MB": 1000**2, "MiB": 1024**2}[unit]


def test_the_proxy_and_the_application_find_each_other() -> None:
    ours, proxy = COMPOSE["services"]["melascope"], COMPOSE["services"]["proxy"]
    address, of_proxy = (service["networks"]["inside"]["ipv4_address"] for service in (ours, proxy))
    network = ipaddress.ip_network(COMPOSE["networks"]["inside"]["ipam"]["config"][0]["subnet"])
    assert ipaddress.ip_address(address) in network
    assert ours["environment"]["MELASCOPE_SERVE_TRUSTED_PROXIES"] == of_proxy
    caddyfile = (DEPLOY / "Caddyfile").read_text()
    assert f"reverse_proxy {address}:{IMAGE.environment['MELASCOPE_SERVE_PORT']}" in caddyfile
    [most] = re.findall(r"max_size (\w+)", caddyfile)
    assert bytes_of(most) >= Settings.model_fields["max_request_bytes"].default
    assert IMAGE.last("EXPOSE") == IMAGE.environment["MELASCOPE_SERVE_PORT"]


def test_what_compose_mounts_is_there_and_what_it_shuts_is_shut() -> None:
    ours = COMPOSE["services"]["melascope"]
    assert (ours["read_only"], ours["cap_drop"]) == (True, ["ALL"])
    assert COMPOSE["networks"]["inside"]["internal"] is True
    assert list(ours["networks"]) == ["inside"]
    assert (DEPLOY / ours["build"]["context"] / ours["build"]["dockerfile"]).is_file()
    mounts = [mount for service in COMPOSE["services"].values() for mount in service["volumes"]]
    files = {mount.split(":")[0] for mount in mounts if mount.startswith("./")} - {"./serve.toml"}
    assert all((DEPLOY / file).is_file() for file in files)
    assert f"./serve.toml:{IMAGE.environment['MELASCOPE_SERVE_CONFIG']}:ro" in ours["volumes"]
    assert int(ours["stop_grace_period"][:-1]) > Settings.model_fields["shutdown_seconds"].default


@pytest.mark.skipif(shutil.which("caddy") is None, reason="Caddy is not installed")
def test_caddy_finds_no_fault_in_its_file() -> None:
    ended = subprocess.run(
        [shutil.which("caddy"), "validate", "--adapter", "caddyfile", "--config", DEPLOY / "Caddyfile"],
        env={"MELASCOPE_DOMAIN": "skin.example.org", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "not formatted" not in ended.stderr


# Runs in the image, against the server that its ENTRYPOINT has started.
_TRIED = """
import json, pathlib, sys, time
from melascope.web.client import Client
with Client("http://127.0.0.1:8000", token="tried") as client:
    while not client.ready():
        time.sleep(0.1)
    decision = client.assess("/tmp/lesion.png", heatmap=True).decision
installed = pathlib.Path(sys.prefix)
print(json.dumps({"decision": decision, "uid": __import__("os").getuid(), "pip": (installed / "bin/pip").exists(),
                  "bytecode": any((installed / "lib").rglob("melascope/**/*.pyc"))}))
"""


@pytest.mark.slow
@pytest.mark.skipif(bool(without_engine.why_not()), reason=str(without_engine.why_not()))
def test_the_image_is_built_and_serves_as_nobody_on_a_read_only_tree(tmp_path: Path) -> None:
    sent = tmp_path / "sent"
    sent.mkdir()
    without_engine.context(ROOT, (DEPLOY / "Containerfile.dockerignore").read_text(), sent)
    settings = tmp_path / "serve.toml"
    settings.write_text(f'[tokens.tried]\nsha256 = "{digest_of("tried")}"\n')
    load_settings({"host": "0.0.0.0"}, file=settings, environment={})
    mounted = f"{IMAGE.name}{IMAGE.environment['MELASCOPE_SERVE_CONFIG']}"
    entry, health = (
        shlex.join(json.loads(words[words.index("[") :]))
        for words in (IMAGE.last("ENTRYPOINT"), IMAGE.last("HEALTHCHECK"))
    )
    tried = f"""set -eu
cat > /tmp/lesion.png
if touch /opt/melascope/written 2> /dev/null; then echo "the tree can be written to"; exit 1; fi
{entry} & server=$!
python -c {shlex.quote(_TRIED)}
{health}
kill -TERM $server
wait $server
"""
    script = (
        without_engine.build(STAGES, sent)
        + f"mkdir -p $(dirname {mounted}) && cp {settings} {mounted} && chmod 644 {mounted}\n"
        + without_engine.within(IMAGE, tried)
    )
    ended = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        input=(ROOT / "examples" / "drawn-lesion.png").read_bytes(),
        capture_output=True,
        check=False,
        timeout=600,
    )
    assert ended.returncode == 0, (ended.stdout[-2000:] + ended.stderr[-4000:]).decode()
    told = json.loads(ended.stdout.splitlines()[-1])
    assert told["decision"]
    assert told["uid"] == int(IMAGE.last("USER").split(":")[0])
    assert (told["pip"], told["bytecode"]) == (False, True)

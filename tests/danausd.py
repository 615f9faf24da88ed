#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""danausd's life by its control socket: attach, list, stats, mistakes, detach, the end of a
container, SIGTERM. Nothing may be left behind. `danausd.py DANAUSD DANAUSCTL`."""
import array
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

DANAUSD, DANAUSCTL = sys.argv[1:3]
ID = "c0123456789abcdef"
WAIT_S = 60


started = []  # whatever a failing test leaves running


class Service:
    def __init__(self, run, pool="p", args=()):
        self.run, self.pool = run, pool
        ready, told = os.pipe()
        os.set_inheritable(told, True)
        self.process = subprocess.Popen(
            [DANAUSD, "--pool", pool, "--ready-fd", str(told), "--run-dir", run, *args],
            pass_fds=[told])
        started.append(self.process)
        os.close(told)
        self.answer = b""
        while chunk := os.read(ready, 512):
            self.answer += chunk
        os.close(ready)

    def connect(self):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.settimeout(WAIT_S)
        sock.connect(f"{self.run}/pools/{self.pool}/control")
        return sock

    def end(self, code=0):
        got = self.process.wait(WAIT_S)
        assert got == code, f"exit code {got}"
        assert not os.path.exists(f"{self.run}/pools/{self.pool}"), "the pool's directory is left"


def ask(sock, request, raw=None):
    sock.send(raw if raw is not None else json.dumps(request).encode())
    data, ancillary, _, _ = sock.recvmsg(1 << 20, socket.CMSG_SPACE(64 * 4))
    fds = array.array("i")
    for _, _, content in ancillary:
        fds.frombytes(content[: len(content) - len(content) % 4])
    return json.loads(data), list(fds)


def container():
    """A process in a mount namespace of its own."""
    out, told = os.pipe()
    child = subprocess.Popen(["unshare", "-m", "sh", "-c", "echo; exec sleep 1000"], stdout=told)
    started.append(child)
    os.close(told)
    os.read(out, 1)
    os.close(out)
    return child


def request_for(top, child, **changes):
    directory = f"{top}/run/containers/{ID}"
    os.makedirs(f"{directory}/guest", exist_ok=True)
    os.makedirs(f"{top}/a", exist_ok=True)
    os.makedirs(f"{top}/b", exist_ok=True)
    return {
        "op": "attach", "id": ID, "dir": directory, "pid": child.pid, "fd_base": 16384,
        "light_limit": 18000, "cache_bytes": 0, "timeout_s": 10,
        "volumes": [{"target": "/data", "source": f"local:{top}/a", "ro": False},
                    {"target": "/data/sub", "source": f"local:{top}/b", "ro": True}],
        **changes}


def attached(top, service):
    child = container()
    sock = service.connect()
    answer, fds = ask(sock, request_for(top, child))
    assert answer["ok"], answer
    assert sorted(answer["mounts"]) == ["/data", "/data/sub"] and len(fds) == 2, (answer, fds)
    for fd in fds:
        os.close(fd)
    guest = f"{top}/run/containers/{ID}/guest"
    assert sorted(os.listdir(guest)) == ["attach", "filter", "mounts"], os.listdir(guest)
    return child, sock, guest


def finish(child):
    child.kill()
    child.wait()


def attach_list_detach(top):
    service = Service(f"{top}/run")
    assert service.answer == b"\n", service.answer
    child, sock, guest = attached(top, service)
    again, _ = ask(sock, request_for(top, child))
    assert not again["ok"] and "already" in again["error"], again
    for wrong, word in (({"op": "bogus"}, "bogus"), ({"nothing": 1}, "none"), (None, "JSON"),
                        ({"op": "detach", "id": "other"}, "other"), ({"op": "attach"}, "id")):
        answer, _ = ask(sock, wrong, b"{not json" if wrong is None else None)
        assert not answer["ok"] and word in answer["error"], answer
    listed, _ = ask(sock, {"op": "list"})
    assert listed["pool"] == "p" and listed["pid"] == service.process.pid, listed
    assert listed["containers"][0]["volumes"][0]["target"] == "/data/sub", listed
    assert listed["containers"][0]["volumes"][0]["ro"] is True, listed
    stats, _ = ask(sock, {"op": "stats"})
    assert set(stats["stats"]) >= {"shm", "notify", "fuse"}, stats
    for verb, word in (("list", "/data/sub"), ("stats", "p50")):
        out = subprocess.run([DANAUSCTL, verb, "--run-dir", f"{top}/run"], timeout=WAIT_S,
                             capture_output=True, text=True)
        assert out.returncode == 0 and word in out.stdout, out
        out = subprocess.run([DANAUSCTL, verb, "--json", "--run-dir", f"{top}/run"], timeout=WAIT_S,
                             capture_output=True, text=True)
        assert out.returncode == 0 and set(json.loads(out.stdout)) == {"p"}, out
    out = subprocess.run([DANAUSCTL, "stats", "none", "--run-dir", f"{top}/run"], timeout=WAIT_S,
                         capture_output=True, text=True)
    assert out.returncode == 1 and "no pool named none" in out.stderr, out
    out = subprocess.run([DANAUSCTL, "annotations"], timeout=WAIT_S, capture_output=True, text=True)
    assert out.returncode == 0 and "danaus.pool " in out.stdout, out
    answer, _ = ask(sock, {"op": "detach", "id": ID})
    assert answer["ok"], answer
    service.end()
    assert not os.path.exists(f"{guest}/attach")
    finish(child)


def the_first_process_ends(top):
    service = Service(f"{top}/run")
    child, _, guest = attached(top, service)
    finish(child)
    service.end()
    assert not os.path.exists(f"{guest}/attach")


def sigterm(top):
    service = Service(f"{top}/run")
    child, _, guest = attached(top, service)
    service.process.send_signal(signal.SIGTERM)
    service.end()
    assert not os.path.exists(f"{guest}/attach")
    finish(child)


def a_failed_first_attach_ends_the_service(top):
    service = Service(f"{top}/run")
    child = container()
    request = request_for(top, child)
    request["volumes"][0]["source"] = "local:/no/such/directory"
    answer, fds = ask(service.connect(), request)
    assert not answer["ok"] and "/no/such/directory" in answer["error"] and not fds, answer
    service.end()
    finish(child)


def bad_options(top):
    for args, word in ((["--cpus", "x"], b"--cpus x"), (["--cpus", "1000"], b"--cpus 1000")):
        service = Service(f"{top}/run", args=args)
        assert word in service.answer, service.answer
        service.end(1)
    service = Service(f"{top}/run", pool="../x")
    assert b"pool name" in service.answer, service.answer
    assert service.process.wait(WAIT_S) == 1


def nothing_to_list_is_said(top):
    for directory in (f"{top}/none", f"{top}/empty"):
        if directory.endswith("empty"):
            os.makedirs(f"{directory}/pools")
        out = subprocess.run([DANAUSCTL, "list", "--run-dir", directory], timeout=WAIT_S,
                             capture_output=True, text=True)
        assert out.returncode == 0 and not out.stdout and "no pools" in out.stderr, out
        out = subprocess.run([DANAUSCTL, "list", "--json", "--run-dir", directory], timeout=WAIT_S,
                             capture_output=True, text=True)
        assert out.returncode == 0 and json.loads(out.stdout) == {} and not out.stderr, out


def dead_and_hung_services_are_named(top):
    run = f"{top}/run"
    os.makedirs(f"{run}/pools/dead", exist_ok=True)
    os.makedirs(f"{run}/pools/hung", exist_ok=True)
    hung = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    hung.bind(f"{run}/pools/hung/control")
    hung.listen(1)
    out = subprocess.run([DANAUSCTL, "list", "--run-dir", run], timeout=WAIT_S,
                         capture_output=True, text=True)
    assert out.returncode == 1, out
    assert "pool dead: its service is not running" in out.stdout, out.stdout
    assert "pool hung: its service does not answer" in out.stdout, out.stdout


def main():
    if os.geteuid() or not os.path.exists("/dev/fuse"):
        print("needs root and /dev/fuse")
        return 77
    for test in (attach_list_detach, the_first_process_ends, sigterm,
                 a_failed_first_attach_ends_the_service, bad_options,
                 nothing_to_list_is_said, dead_and_hung_services_are_named):
        with tempfile.TemporaryDirectory(prefix="danausd-test-") as top:
            began = time.monotonic()
            try:
                test(top)
            finally:
                for process in started:
                    process.kill()
                    process.wait()
                started.clear()
            print(f"{test.__name__}: {time.monotonic() - began:.2f} s", flush=True)
    return 0


sys.exit(main())

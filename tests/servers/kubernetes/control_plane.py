"""etcd, the three Kubernetes servers and kwok as child processes, on loopback and free ports."""

import json
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from benchmarks.world.ports import free_port
from tests.servers.install import CACHE

FOLDER = CACHE / "kubernetes"
BINARIES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kwok")
STAGES = Path(__file__).with_name("kwok-stages.yaml")
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 20.0
CONTROLLERS = (
    "serviceaccount-controller,root-ca-certificate-publisher-controller,namespace-controller,"
    "daemonset-controller,replicaset-controller,deployment-controller"
)
ALTERNATIVE_NAMES = "IP:127.0.0.1,IP:10.96.0.1,DNS:localhost,DNS:kubernetes.default.svc"


class ControlPlane:
    """Ready in 5 s, 520 MB. Everything it stores is below `folder`; RBAC is on, and `kubectl` is its administrator."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self._etcd_port, self._etcd_peer_port = free_port(), free_port(), free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.ca_file = folder / "ca.crt"
        self.kubeconfig = folder / "admin.kubeconfig"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __repr__(self) -> str:
        return f"<ControlPlane {self.url} with {', '.join(self._processes)}>"

    def start(self) -> None:
        self._make_certificates()
        self._write_kubeconfig()
        self._run(
            "etcd",
            f"--data-dir={self.folder}/etcd",
            f"--listen-client-urls=http://127.0.0.1:{self._etcd_port}",
            f"--advertise-client-urls=http://127.0.0.1:{self._etcd_port}",
            f"--listen-peer-urls=http://127.0.0.1:{self._etcd_peer_port}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{self._etcd_peer_port}",
            f"--initial-cluster=default=http://127.0.0.1:{self._etcd_peer_port}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )
        self.start_api()
        common = (f"--kubeconfig={self.kubeconfig}", "--bind-address=127.0.0.1", f"--cert-dir={self.folder}")
        self._run(
            "kube-controller-manager",
            *common,
            f"--secure-port={free_port()}",
            "--leader-elect=false",
            "--service-account-private-key-file=sa.key",
            "--root-ca-file=ca.crt",
            f"--controllers={CONTROLLERS}",
        )
        self._run("kube-scheduler", *common, f"--secure-port={free_port()}", "--leader-elect=false")
        self._run(
            "kwok",
            f"--kubeconfig={self.kubeconfig}",
            f"--config={STAGES}",
            "--manage-all-nodes=true",
            "--cidr=10.2.0.0/16",
            "--node-ip=10.1.0.1",
            f"--server-address=127.0.0.1:{free_port()}",
            "--node-lease-duration-seconds=40",
        )

    def start_api(self) -> None:
        """Returns when it is ready; after `kill_api`, with everything that it had stored."""
        self._run(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port}",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            "--tls-cert-file=api.crt",
            "--tls-private-key-file=api.key",
            "--client-ca-file=ca.crt",
            f"--cert-dir={self.folder}",
            "--token-auth-file=tokens.csv",
            "--anonymous-auth=true",
            "--authorization-mode=Node,RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-account-key-file=sa.pub",
            "--service-account-signing-key-file=sa.key",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--allow-privileged=true",
            "--shutdown-watch-termination-grace-period=2s",
        )
        self._wait_until_ready()

    def stop_api(self) -> None:
        self._end("kube-apiserver", signal.SIGTERM)

    def kill_api(self) -> None:
        self._end("kube-apiserver", signal.SIGKILL)

    def stop(self) -> None:
        for name in reversed(list(self._processes)):
            self._end(name, signal.SIGTERM)

    def kubectl(self, *arguments: str, stdin: object = None) -> str:
        """Its output. `stdin` is an object, for `-f -`. Raises AssertionError with its words when it fails."""
        done = subprocess.run(
            [FOLDER / "kubectl", f"--kubeconfig={self.kubeconfig}", *arguments],
            input=json.dumps(stdin) if stdin is not None else None,
            capture_output=True,
            text=True,
            cwd=self.folder,
        )
        if done.returncode:
            raise AssertionError(f"kubectl {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def get(self, *arguments: str) -> Any:
        """What `kubectl get` says, as objects."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def make_token(self, namespace: str, service_account: str) -> str:
        return self.kubectl("create", "token", service_account, "-n", namespace, "--duration=10m").strip()

    def _run(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [FOLDER / name, *arguments],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _end(self, name: str, how: signal.Signals) -> None:
        process = self._processes.pop(name)
        process.send_signal(how)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _wait_until_ready(self) -> None:
        context = ssl.create_default_context(cafile=str(self.ca_file))
        request = urllib.request.Request(f"{self.url}/readyz", headers={"Authorization": "Bearer admintoken"})
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._processes["kube-apiserver"].poll() is not None:
                break
            try:
                with urllib.request.urlopen(request, context=context, timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        last = (self.folder / "kube-apiserver.log").read_text()[-2000:]
        raise AssertionError(f"kube-apiserver did not become ready: {last}")

    def _write_kubeconfig(self) -> None:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "admin",
            "clusters": [{"name": "test", "cluster": {"server": self.url, "certificate-authority": str(self.ca_file)}}],
            "users": [{"name": "admin", "user": {"token": "admintoken"}}],
            "contexts": [{"name": "admin", "context": {"cluster": "test", "user": "admin"}}],
        }
        self.kubeconfig.write_text(yaml.safe_dump(config))
        (self.folder / "tokens.csv").write_text('admintoken,admin,admin,"system:masters"\n')

    def _make_certificates(self) -> None:
        self._openssl(
            "req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=test-ca -keyout ca.key -out ca.crt"
            " -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign"
        )
        self._openssl("req -newkey rsa:2048 -nodes -subj /CN=kube-apiserver -keyout api.key -out api.csr")
        extensions = self.folder / "api.ext"
        extensions.write_text(f"subjectAltName={ALTERNATIVE_NAMES}\nextendedKeyUsage=serverAuth\n")
        self._openssl(
            "x509 -req -in api.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out api.crt -extfile api.ext"
        )
        self._openssl("genrsa -out sa.key 2048")
        self._openssl("rsa -in sa.key -pubout -out sa.pub")

    def _openssl(self, arguments: str) -> None:
        subprocess.run(["openssl", *arguments.split()], cwd=self.folder, check=True, capture_output=True)

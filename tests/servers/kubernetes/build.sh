#!/bin/bash
# Builds a Kubernetes control plane from Go modules: 6 minutes on 2 cores, once; seconds when it is there already.
# Into $SHIPPER_SERVERS/kubernetes (default ~/.cache/shipper-servers/kubernetes). Needs Go (see go.mod for its version).
set -euo pipefail
here=$(dirname "$(realpath "$0")")
out=${SHIPPER_SERVERS:-$HOME/.cache/shipper-servers}/kubernetes
version=1.36.3
kwok_version=v0.8.0

flags="-s -w"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  flags="$flags -X $package.gitVersion=v$version -X $package.gitMajor=1 -X $package.gitMinor=36 -X $package.gitTreeState=clean"
  flags="$flags -X $package.gitCommit=$(printf '0%.0s' {1..40}) -X $package.buildDate=2026-01-01T00:00:00Z"
done

work=$(mktemp -d) # go may complete go.sum: not in the checkout
trap 'rm -rf "$work"' EXIT
cp "$here/go.mod" "$here/go.sum" "$work/"
cd "$work"
mkdir -p "$out"
export CGO_ENABLED=0 GOFLAGS="-mod=mod -buildvcs=false -trimpath"
go build -ldflags "-s -w" -o "$out/etcd" go.etcd.io/etcd/server/v3
for command in kube-apiserver kube-controller-manager kube-scheduler kubectl; do
  go build -ldflags "$flags" -o "$out/$command" "k8s.io/kubernetes/cmd/$command"
done
GOFLAGS="-buildvcs=false -trimpath" GOBIN="$out" go install -ldflags "-s -w" "sigs.k8s.io/kwok/cmd/kwok@$kwok_version"
ls -l "$out"

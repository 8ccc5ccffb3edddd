#!/usr/bin/env bash
# Join this node to a Ray cluster, with its NPUs, its network environment and the cluster's token.
#
#   launch/worker.sh HEAD:6379 [OPTION OF ray start ...]      for example --block
#
# Variables that are set already win (HCCL_IF_IP, GLOO_SOCKET_IFNAME, ASCEND_RT_VISIBLE_DEVICES, ...) and are checked.
set -euo pipefail

if [ $# -eq 0 ] || [[ $1 != *:* ]]; then
    echo "usage: $0 HEAD:PORT [OPTION OF ray start ...], for example $0 10.0.0.1:6379" >&2
    exit 2
fi
head=$1
shift

exports=$(python3 -m ascend_serve.cluster.exports)
eval "$exports"

# As on the head: ranks give way to nothing else on the node.
export RAY_worker_niceness="${RAY_worker_niceness:-0}"
export RAY_AUTH_MODE=token
if ! ray get-auth-token >/dev/null 2>&1; then
    echo "error: this node has no token for the cluster" >&2
    echo "next: copy ~/.ray/auth_token of the head node here, or set RAY_AUTH_TOKEN_PATH" >&2
    exit 1
fi

IFS=, read -r -a npus <<<"${ASCEND_RT_VISIBLE_DEVICES:-}"
if [ "${#npus[@]}" -eq 0 ]; then
    echo "error: no NPU on this node" >&2
    echo "next: ascend-serve doctor tells why" >&2
    exit 1
fi

exec ray start --address="$head" --num-gpus=0 --resources="{\"NPU\": ${#npus[@]}}" "$@"

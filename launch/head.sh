#!/usr/bin/env bash
# Start the head of a Ray cluster on this node, with its NPUs, its network environment and token authentication.
#
#   launch/head.sh [OPTION OF ray start ...]      for example --port=6380 --dashboard-host=0.0.0.0 --block
#
# Variables that are set already win (HCCL_IF_IP, GLOO_SOCKET_IFNAME, ASCEND_RT_VISIBLE_DEVICES, ...) and are checked.
set -euo pipefail

exports=$(python3 -m ascend_serve.cluster.exports)
eval "$exports"

# Ray has its workers give way to all else on a node (niceness 15); a rank that waits makes all ranks wait.
export RAY_worker_niceness="${RAY_worker_niceness:-0}"
# Ray asks a node every 3 s and gives it up after 5 answers that fail, or that it has waited 10 s for.
export RAY_health_check_period_ms="${RAY_health_check_period_ms:-1000}"
export RAY_health_check_failure_threshold="${RAY_health_check_failure_threshold:-4}"
export RAY_health_check_timeout_ms="${RAY_health_check_timeout_ms:-5000}"
export RAY_AUTH_MODE=token
(umask 077 && ray get-auth-token --generate >/dev/null)

IFS=, read -r -a npus <<<"${ASCEND_RT_VISIBLE_DEVICES:-}"
if [ "${#npus[@]}" -eq 0 ]; then
    echo "warning: no NPU on this node; it serves as a head without workers (ascend-serve doctor tells why)" >&2
    set -- --num-gpus=0 "$@"
else
    set -- --num-gpus=0 --resources="{\"NPU\": ${#npus[@]}}" "$@"
fi

port=6379
previous=
for option in "$@"; do
    case "$option" in --port=*) port=${option#--port=} ;; esac
    [ "$previous" != --port ] || port=$option
    previous=$option
done

echo "On each worker: copy ~/.ray/auth_token there, then launch/worker.sh ${HCCL_IF_IP:-<address of this node>}:$port" >&2
exec ray start --head --port=6379 "$@"

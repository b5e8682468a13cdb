#!/usr/bin/env bash
# Starts N processes of one run on this host. Run it in the repository root:
#
#   launch/local.sh N --config=configs/nofrost_r50.py --workdir=DIR
#
# One process uses all devices of a host, so N = 1 is the normal case. N = 2 tries the multi-host code on a CPU, where
# JAX_NUM_CPU_DEVICES sets the number of devices of each process. On a host with GPUs give each process its own, in one
# word for each process: GPUS="0,1 2,3" launch/local.sh 2 ...
#
# Process 0 writes to the screen, the others to files. SIGTERM, SIGUSR1, SIGHUP and Ctrl-C reach all processes as
# SIGTERM: they save the state and exit with 75, and the same command continues. A second Ctrl-C ends all at once. If
# one process fails, the script ends the others and returns its exit code.
set -u

count=${1-}
if ! [[ $count =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: launch/local.sh N --config=FILE --workdir=DIR ...   (N: number of processes, got '$count')" >&2
    exit 2
fi
shift
read -ra gpus <<<"${GPUS-}"
if ((${#gpus[@]} != 0 && ${#gpus[@]} != count)); then
    echo "error: GPUS='$GPUS' has ${#gpus[@]} words for $count processes; give one word a process, e.g. GPUS='0,1 2,3'" >&2
    exit 2
fi

port=$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])') || exit 1
logs=$(mktemp -d "${TMPDIR:-/tmp}/nofrost.XXXXXX") || exit 1
pids=()

start() { # PROCESS_ID ARGS...
    local id=$1
    shift
    if ((${#gpus[@]})); then export CUDA_VISIBLE_DEVICES=${gpus[id]}; fi
    exec python main.py "$@" --coordinator_address="127.0.0.1:$port" --num_processes="$count" --process_id="$id"
}

signal_all() { kill "-$1" "${pids[@]}" 2>/dev/null; }
# shellcheck disable=SC2034 # the trap counts them
interrupts=0
trap 'signal_all TERM' TERM HUP USR1
trap 'if ((interrupts++)); then signal_all KILL; else signal_all TERM; fi' INT

for ((id = 0; id < count; id++)); do
    if ((id == 0)); then start 0 "$@" & else start "$id" "$@" >"$logs/process_$id.log" 2>&1 & fi
    pids+=("$!")
done
if ((count > 1)); then echo "all processes but number 0 write to $logs/" >&2; fi

first_failed=0 # the process that failed first; status is its exit code
status=0
deadline=0 # in SECONDS: when to kill the others; 0 = never
running=$count
ended=()
while ((running)); do
    for ((id = 0; id < count; id++)); do
        if [[ ${ended[id]-} ]] || kill -0 "${pids[id]}" 2>/dev/null; then continue; fi
        wait "${pids[id]}"
        code=$?
        ended[id]=1
        running=$((running - 1))
        if ((code != 0 && (status == 0 || (status == 75 && code != 75)))); then
            status=$code first_failed=$id
            # After 75 all are saving. After a failure the others cannot continue, and would wait for minutes.
            if ((code != 75)); then deadline=$((SECONDS + 10)); fi
        fi
    done
    if ((deadline && SECONDS >= deadline)); then signal_all KILL; fi
    sleep 0.2
done

if ((status && status != 75 && first_failed)); then
    echo "process $first_failed failed with exit code $status; the end of $logs/process_$first_failed.log:" >&2
    tail -n 20 "$logs/process_$first_failed.log" >&2
elif ((status > 128)); then
    echo "process 0 was ended by signal $((status - 128)); what was saved is complete: start all processes again" >&2
elif ((status == 0 || status == 75)); then
    rm -r "$logs"
fi
exit "$status"

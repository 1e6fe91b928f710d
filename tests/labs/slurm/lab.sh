#!/bin/bash
# Pid 1 of the lab's namespaces (started by lab.py): munge, MariaDB and Slurm from $LAB/etc, then $LAB/ready.
# Needs LAB, HOSTN and NODES (names). When it ends or is killed, everything in the lab dies with it.
set -euo pipefail
: "${LAB:?}" "${HOSTN:?}" "${NODES:?}"
export SLURM_CONF=$LAB/etc/slurm.conf PATH=/usr/sbin:/usr/bin:/sbin:/bin

phase() { echo "$(date +%s%N) $1" >> "$LAB/log/boot.times"; }

wait_for() {
  for _ in $(seq 4000); do
    if "$@" > /dev/null 2>&1; then return 0; fi
    sleep 0.05
  done
  echo "timeout: $*" >&2
  "$@"  # once more, to show its error
  exit 1
}

all_idle() { [ "$(sinfo --noheader --states=idle --format=%D)" = "$1" ]; }

isolate() {
  cd /
  mount --make-rprivate /
  hostname "$HOSTN"
  ip link set lo up
  # glibc's AI_ADDRCONFIG ignores loopback addresses: without one more, slurmdbd finds no address to listen on
  ip addr add 192.0.2.1/32 dev lo
  [ -e /etc/hosts ] || touch /etc/hosts # a minimal system has none to bind over
  for file in passwd group hosts; do mount --bind "$LAB/etc/$file" "/etc/$file"; done
}

database() {
  mariadb-install-db --no-defaults --user=mysql --datadir="$LAB/db" \
    --auth-root-authentication-method=normal --skip-test-db > "$LAB/log/dbinstall.log" 2>&1
  # no flush at commit: the lab's history need not outlive it, and start is seconds faster
  mariadbd --no-defaults --user=mysql --datadir="$LAB/db" --socket="$LAB/run/mysql.sock" \
    --pid-file="$LAB/run/mysql.pid" --bind-address=127.0.0.1 --port=13306 --innodb-buffer-pool-size=128M \
    --innodb-lock-wait-timeout=900 --innodb-flush-log-at-trx-commit=0 > "$LAB/log/mariadb.log" 2>&1 < /dev/null &
  wait_for mariadb-admin --no-defaults -S "$LAB/run/mysql.sock" ping
  for host in localhost 127.0.0.1; do
    echo "create user slurm@'$host' identified by 'labpw'; grant all on slurm_acct_db.* to slurm@'$host';"
  done | mariadb --no-defaults -S "$LAB/run/mysql.sock"
}

accounts() {
  sacctmgr -i add cluster lab
  sacctmgr -i add account physics,bio
  sacctmgr -i add user alice,bob account=physics
  sacctmgr -i add user bob account=bio
}

phase begin
isolate
setpriv --reuid munge --regid munge --clear-groups munged --force --key-file="$LAB/etc/munge.key" \
  --socket="$LAB/run/munge.socket" --pid-file="$LAB/run/munged.pid" --log-file="$LAB/log/munged.log" \
  --seed-file="$LAB/run/munge.seed" --num-threads=10
database
phase database
slurmdbd
wait_for sacctmgr -n show cluster
accounts > "$LAB/log/sacctmgr.log" 2>&1
phase accounts
slurmctld -c
wait_for scontrol ping
count=0
for node in $NODES; do
  slurmd -N "$node"
  count=$((count + 1))
done
wait_for all_idle "$count"
phase idle
touch "$LAB/ready"
# pid 1 must reap orphaned slurmstepds: bash does in `wait`, a bare sleep does not
while :; do
  sleep 60 &
  wait $! || :
done

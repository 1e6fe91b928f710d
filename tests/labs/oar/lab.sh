#!/bin/bash
# Pid 1 of the lab's namespaces (started by lab.py): PostgreSQL and OAR's server from $LAB/etc, the nodes, then $LAB/ready.
# When it ends or is killed, everything in the lab dies with it.
#
#   lab.sh head              HOSTN, NODES ("n1 n2"), GPUNODES, CORES, TOP (the cgroup that holds the nodes' cgroups)
#   lab.sh node NAME PLACE   a node's power button: returns when its sshd listens; run it within the head's namespaces
#   lab.sh init NAME PLACE   pid 1 of a node
# All of them need LAB, and KEEP: folders that a node must see though it has a /tmp of its own.
set -euo pipefail
: "${LAB:?}" "${TOP:?}" "${KEEP:?}" "${HOSTN:?}"
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
NET=10.77.0
CONTROLLERS="cpuset cpu cpuacct devices freezer"

wait_for() {
  for _ in $(seq 4000); do
    if "$@" > /dev/null 2>&1; then return 0; fi
    sleep 0.05
  done
  echo "timeout: $*" >&2
  "$@" # once more, to show its error
  exit 1
}

phase() { echo "$(date +%s%N) $1" >> "$LAB/log/boot.times"; }

isolate() {
  cd /
  mount --make-rprivate /
  hostname "$HOSTN"
  [ -e /etc/hosts ] || touch /etc/hosts
  [ -e /var/log/oar.log ] || touch /var/log/oar.log
  mount -t tmpfs -o mode=755 tmpfs /run # pid files and sockets of the machine's own are not ours
  mkdir -p /run/sshd /run/home
  mount --bind "$LAB/home" /run/home
  for file in passwd group shadow hosts oar/oar.conf; do mount --bind "$LAB/etc/${file##*/}" "/etc/$file"; done
  mount --bind "$LAB/log/oar.log" /var/log/oar.log
  mount --bind "$LAB/varliboar" /var/lib/oar
  ip link set lo up
  ip link add br0 type bridge
  ip addr add $NET.1/24 dev br0
  ip link set br0 up
}

postgres() { setpriv --reuid postgres --regid postgres --clear-groups "$@"; }

database() {
  local bin
  bin=$(printf "%s\n" /usr/lib/postgresql/*/bin | sort -V | tail -1)
  postgres "$bin/initdb" --no-sync -D "$LAB/pg" -A trust -E UTF8 --locale=C > "$LAB/log/initdb.log" 2>&1
  # no flush at commit: the lab's history need not outlive it
  cat >> "$LAB/pg/postgresql.conf" <<END
listen_addresses = '127.0.0.1'
port = 55432
unix_socket_directories = '$LAB/run'
fsync = off
synchronous_commit = off
full_page_writes = off
max_connections = 200
END
  postgres "$bin/postgres" -D "$LAB/pg" > "$LAB/log/postgres.log" 2>&1 < /dev/null &
  wait_for postgres "$bin/pg_isready" -h 127.0.0.1 -p 55432
  oar-database --create --db-admin-user=postgres --db-admin-pass=x -y > "$LAB/log/oar-database.log" 2>&1
}

start_sshd() { # ADDRESS LOG
  /usr/sbin/sshd -f /etc/oar/sshd_config -o "ListenAddress=$1" -o PidFile=/run/oar_sshd.pid -E "$2" 2> /dev/null
}

node() { # NAME PLACE
  local name=$1 controller file folder
  for controller in $CONTROLLERS; do mkdir -p "/sys/fs/cgroup/$controller/$TOP/$name"; done
  for folder in "$TOP" "$TOP/$name"; do
    for file in cpus mems; do cat "/sys/fs/cgroup/cpuset/cpuset.$file" > "/sys/fs/cgroup/cpuset/$folder/cpuset.$file"; done
  done
  rm -f "$LAB/run/$name.up"
  # into its cgroups before the cgroup namespace is made: inside, paths are as on a real node
  setsid bash -c "
    for c in $CONTROLLERS; do echo 0 > /sys/fs/cgroup/\$c/$TOP/$name/cgroup.procs; done
    exec unshare --net --mount --uts --pid --cgroup --ipc --fork --kill-child '$0' init $name $2" \
    > "$LAB/log/$name.log" 2>&1 < /dev/null &
  local launcher=$! pid=
  for _ in $(seq 10000); do
    pid=$(pgrep -P $launcher) && [ "$(readlink "/proc/$pid/ns/net")" != "$(readlink /proc/self/ns/net)" ] && break
    sleep 0.02
  done
  # its card is the same at each boot: the head would go on talking to one that is gone
  ip link add "v-$name" type veth peer name eth0 address "$(printf 02:00:00:00:00:%02x "$2")" netns "$pid"
  ip link set "v-$name" master br0 up
  wait_for test -e "$LAB/run/$name.up"
}

init() { # NAME PLACE
  local name=$1 place=$2 controller folder number=0
  mount --make-rprivate /
  hostname "$name"
  mount -t proc proc /proc
  ip link set lo up
  wait_for ip link show eth0
  ip addr add "$NET.$((place + 10))/24" dev eth0
  ip link set eth0 up
  for controller in $CONTROLLERS; do
    mount --bind "/sys/fs/cgroup/$controller/$TOP/$name" "/sys/fs/cgroup/$controller"
  done
  mount --bind "$LAB/nodes/$name/varliboar" /var/lib/oar
  # OAR deletes the files of a job's user below /tmp, /dev/shm and /var/tmp: a node has its own
  mount -t tmpfs -o mode=755 tmpfs /run
  mkdir -p /run/sshd /run/keep
  for folder in $KEEP; do
    number=$((number + 1))
    mkdir "/run/keep/$number"
    mount --rbind "$folder" "/run/keep/$number"
  done
  for folder in /tmp /var/tmp; do mount -t tmpfs -o mode=1777 tmpfs "$folder"; done
  number=0
  for folder in $KEEP; do
    number=$((number + 1))
    case $folder in
      /tmp/* | /var/tmp/*)
        mkdir -p "$folder"
        mount --rbind "/run/keep/$number" "$folder"
        ;;
    esac
  done
  mkdir /run/home
  mount --bind "$LAB/home" /run/home
  mount -t tmpfs tmpfs "$LAB/home"
  devices "$name"
  mount --bind "$LAB/nodes/$name/boot_id" /proc/sys/kernel/random/boot_id
  jobimpact "$name"
  start_sshd "$NET.$((place + 10))" "$LAB/log/$name.sshd.log"
  touch "$LAB/run/$name.up"
  reap
}

devices() { # NAME: a /dev of its own, as OAR links its cgroups below it, and two GPUs
  local name=$1 file
  mkdir -p /run/dev
  mount -t tmpfs -o mode=755 tmpfs /run/dev
  for file in null zero full random urandom tty; do cp -a "/dev/$file" /run/dev/; done
  mkdir -p /run/dev/pts /run/dev/shm
  mount -t devpts -o newinstance,ptmxmode=666 devpts /run/dev/pts
  ln -s pts/ptmx /run/dev/ptmx
  mount -t tmpfs -o mode=1777 tmpfs /run/dev/shm
  ln -s /proc/self/fd /run/dev/fd
  ln -s fd/0 /run/dev/stdin
  ln -s fd/1 /run/dev/stdout
  ln -s fd/2 /run/dev/stderr
  case " ${GPUNODES-} " in
    *" $name "*) for file in 0 1; do mknod -m 666 "/run/dev/nvidia$file" c 195 "$file"; done ;;
  esac
  mount --move /run/dev /dev
}

jobimpact() { # what an admin does on a node: the notifier at one place, the mark folder at boot
  local name=$1
  mount -t tmpfs -o mode=755 tmpfs /opt
  mkdir -p /opt/jobimpact/share/jobimpact/prolog_epilog/oar
  install -m 755 "$LAB/etc/notify" /opt/jobimpact/share/jobimpact/prolog_epilog/oar/notify
  mkdir -p /run/jobimpact
  install -d -m 1730 -o root -g oar /run/jobimpact/marks
}

reap() { # pid 1 must reap orphans: bash does in `wait`, a bare sleep does not
  while :; do
    sleep 60 &
    wait $! || :
  done
}

resources() {
  local number=1 gpu=1 place=1 name core more
  for name in cpu core gpu gpudevice; do oarproperty -a $name; done
  for name in host cluster; do oarproperty -c -a $name; done
  for name in $NODES; do
    for core in $(seq 0 $((CORES - 1))); do
      more=""
      case " ${GPUNODES-} " in
        *" $name "*) [ "$core" -lt 2 ] && more="-p gpu=$gpu -p gpudevice=$core" && gpu=$((gpu + 1)) ;;
      esac
      # shellcheck disable=SC2086 # several words
      oarnodesetting -a -h "$name" -p "host=$name" -p cluster=lab -p "cpu=$place" -p "core=$number" \
        -p "cpuset=$core" -p deploy=YES $more
      number=$((number + 1))
    done
    place=$((place + 1))
  done
}

all_alive() { [ "$(psql -h 127.0.0.1 -p 55432 -U oar_ro -At oar -c "select count(*) from resources where state = 'Alive'")" = "$1" ]; }

head() {
  local place=1 name count
  phase begin
  isolate
  database
  phase database
  for name in $NODES; do
    node "$name" $place &
    place=$((place + 1))
  done
  resources > "$LAB/log/resources.log" 2>&1
  phase resources
  /usr/sbin/oar-server
  start_sshd $NET.1 "$LAB/log/head.sshd.log"
  count=$(echo "$NODES" | wc -w)
  for name in $NODES; do wait_for test -e "$LAB/run/$name.up"; done
  wait_for all_alive $((count * CORES))
  phase alive
  touch "$LAB/ready"
  reap
}

case $1 in
  head) head ;;
  node) node "$2" "$3" ;;
  init) init "$2" "$3" ;;
esac

# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The guest inside the machine, for the groups that have one: its QEMU, its console,
# its monitor. There are no cases in here.

# A boot takes minutes on a busy host: it may run under two layers of emulation.
BOOT=600

# guest_start NAME VHOST_NODE ADDRESS [QEMU ARGUMENT...]: its console is
# /tmp/NAME.log, its process id is in /tmp/NAME.pid.
guest_start() {
	local name=$1 node=$2 address=$3
	shift 3
	rm -f "/tmp/$name.sock"
	ulimit -l unlimited
	# An emulated processor that can do more does all of it more slowly.
	local processor=(-accel tcg -cpu qemu64)
	[ "${GUEST_ACCEL-}" != kvm ] || processor=(-accel kvm -cpu host)
	qemu-system-x86_64 -nodefaults -no-user-config -display none \
		"${processor[@]}" -M pc -m 64 \
		-kernel "$LAB/guest/vmlinux" -initrd "$LAB/guest/initramfs" \
		-append "console=ttyS0 quiet panic=-1 address=$address" \
		-netdev "vhost-vdpa,id=net,vhostdev=$node" \
		-device virtio-net-pci,netdev=net,disable-legacy=on,romfile= \
		-chardev "socket,id=console,path=/tmp/$name.sock,server=on,wait=off,logfile=/tmp/$name.log" \
		-serial chardev:console -qmp "unix:/tmp/$name.qmp,server=on,wait=off" \
		"$@" </dev/null >"/tmp/$name.err" 2>&1 &
	echo $! >"/tmp/$name.pid"
}

guest_wait() { # guest_wait NAME SECONDS [TIMES]: until it has said that it is ready, TIMES times
	wait_for "$2" guest_is_ready "$1" "${3:-1}"
}

guest_is_ready() {
	[ "$(grep -c '^guest: ready' "/tmp/$1.log")" -ge "$2" ]
}

# guest_type NAME COMMAND: types it at the guest's console, for commands that do
# not come back. It stays until the console has echoed the line.
guest_type() {
	python3 - "/tmp/$1.sock" "$2" <<-'PYTHON'
		import socket, sys
		console = socket.socket(socket.AF_UNIX)
		console.connect(sys.argv[1])
		console.settimeout(60)
		console.sendall(sys.argv[2].encode() + b"\n")
		text = b""
		while sys.argv[2].encode() not in text.replace(b"\r", b""):
		    text += console.recv(4096)
	PYTHON
}

# guest_run NAME SECONDS COMMAND: types it at the guest's console; prints its
# output and has its status. One connection from typing to answer: the emulator
# forgets what was typed when the other end has gone.
guest_run() {
	python3 - "/tmp/$1.sock" "$(($2 * ${VF_VDPA_SLOW:-1}))" "$3" <<-'PYTHON'
		import re, socket, sys, time
		path, seconds, command = sys.argv[1], float(sys.argv[2]), sys.argv[3]
		end = time.monotonic() + seconds
		console = socket.socket(socket.AF_UNIX)
		console.connect(path)
		# Each mark is typed in two pieces, so that its echo is not taken for it.
		console.sendall(f'echo "be""gin"; {command}; s=$?; echo; echo "e""nd" $s\n'.encode())
		text = ""
		while time.monotonic() < end:
		    console.settimeout(max(end - time.monotonic(), 0.1))
		    try:
		        text += console.recv(4096).decode(errors="replace").replace("\r", "")
		    except TimeoutError:
		        break
		    done = re.search(r"^begin\n(.*?)\n?^end (\d+)$", text, re.S | re.M)
		    if done:
		        print(done[1].rstrip())
		        sys.exit(int(done[2]))
		    if re.search(r"^guest: ready", text, re.M):
		        print("the guest has begun anew meanwhile")
		        sys.exit(125)
		print(f"the guest did not answer within {seconds:.0f} s; its console shows: {text[-300:]}")
		sys.exit(124)
	PYTHON
}

guest_stop() { # guest_stop NAME [SIGNAL]
	local pid
	pid=$(cat "/tmp/$1.pid") || return 0
	kill "-${2:-TERM}" "$pid" 2>/dev/null
	wait "$pid" 2>/dev/null
	rm -f "/tmp/$1.pid"
}

# qmp NAME COMMAND [ARGUMENTS]: what QEMU answers, as JSON
qmp() {
	python3 - "/tmp/$1.qmp" "$2" "${3:-{\}}" <<-'PYTHON'
		import json, socket, sys
		monitor = socket.socket(socket.AF_UNIX)
		monitor.settimeout(120)
		monitor.connect(sys.argv[1])
		lines = monitor.makefile("rw")
		def ask(command, arguments):
		    lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
		    lines.flush()
		    for line in lines:
		        answer = json.loads(line)
		        if "error" in answer:
		            sys.exit(f"{command}: {answer['error']['desc']}")
		        if "return" in answer:
		            return answer["return"]
		    sys.exit(f"{command}: QEMU has gone")
		lines.readline()
		ask("qmp_capabilities", {})
		print(json.dumps(ask(sys.argv[2], json.loads(sys.argv[3]))))
	PYTHON
}

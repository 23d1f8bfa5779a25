# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Who talks to a guest, or takes what it sends, in the container right, and how long that stands still.
# There are no cases in here.

# talk LOG: a connection to the guest that sends back what it gets. It ends, once
# everything has come back, when it is told to by SIGTERM. $! is its process.
talk() {
	cat >/tmp/talk.py <<-'PYTHON'
		import select, signal, socket, struct, sys, time
		wire = socket.create_connection((sys.argv[1], 7), timeout=60)
		wire.setblocking(False)
		# No FIN that a guest which has gone never answers: the container, and with it the
		# physical function, would stay for as long as that.
		wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
		ending = False
		def end(*_):
		    global ending
		    ending = True
		signal.signal(signal.SIGTERM, end)
		def text(start, length):  # a number in every four bytes
		    first, last = start // 4, (start + length + 3) // 4
		    numbers = struct.pack(f">{last - first}I", *range(first, last))
		    return numbers[start - 4 * first :][:length]
		def unanswered():  # struct tcp_info: segments without an answer, how often they were sent again, when next
		    info = wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
		    return struct.unpack_from("I", info, 24)[0], info[2], struct.unpack_from("I", info, 8)[0] // 1000
		sent = received = 0
		silence, why, waiting, last = 0, (0, 0, 0), (0, 0, 0), time.monotonic()
		print("connected", flush=True)
		while not ending or received < sent:
		    more = not ending and sent - received < 4096
		    readable, writable, _ = select.select([wire], [wire] if more else [], [], 0.1)
		    if writable:
		        sent += wire.send(text(sent, 512))
		    if readable:
		        data = wire.recv(65536)
		        if data != text(received, len(data)) or not data:
		            sys.exit(f"wrong or no data behind byte {received}")
		        received += len(data)
		        now = time.monotonic()
		        if now - last > silence:
		            silence, why = now - last, waiting
		        waiting, last = (0, 0, 0), now
		        print(received, flush=True)
		    else:
		        waiting = unanswered()
		        if time.monotonic() - last > 100:
		            sys.exit(
		                f"nothing has come back for 100 s, behind byte {received} of {sent}: {waiting[0]} segments "
		                f"have no answer, sent again {waiting[1]} times, next after {waiting[2]} ms"
		            )
		print(
		    f"{received} bytes came back, the longest silence was {silence * 1000:.0f} ms: "
		    f"at its end {why[0]} segments had no answer, sent again {why[1]} times. With none it is the guest's timer"
		)
	PYTHON
	: >"$1"
	ip netns exec right python3 /tmp/talk.py "$LEFT" >"$1" 2>&1 &
}

# talked LOG: the bytes that have come back, or arrived
talked() {
	local bytes
	bytes=$(grep -x '[0-9]*' "$1" | tail -n 1)
	echo "${bytes:-0}"
}

# has_talked LOG BYTES: so many have come back
has_talked() {
	[ "$(talked "$1")" -ge "$2" ]
}

# ends_talking PID LOG: the connection has lived through it all, and goes on by itself
ends_talking() {
	run_ok wait_for "$LATER" has_talked "$2" $(($(talked "$2") + 16384))
	kill -TERM "$1"
	ends_well "$1" "the guest's connection has survived" "$2"
	echo "# $(tail -n 1 "$2")"
}

# part NAME: what comes from now on is told of by this name
part() {
	echo "part $1" >>/tmp/ping.log
}

# longest_gaps: of what ping has printed, the longest time without an answer in each part
longest_gaps() {
	awk '$1 == "part" { name = $2; if (!(name in gap)) { gap[name] = 0; order[++parts] = name } }
		/icmp_seq=[0-9]* ttl/ { now = substr($1, 2) + 0
			if (last && now - last > gap[name]) gap[name] = now - last
			last = now }
		END { for (i = 1; i <= parts; i++)
			printf "%s%s %.0f ms", (i > 1) ? ", " : "", order[i], gap[order[i]] * 1000 }' /tmp/ping.log
}

# traffic: the guest talks, and is pinged, until traffic_survives
traffic() {
	talk /tmp/talk.log
	TALKER=$!
	wait_for "$SOON" grep -q connected /tmp/talk.log || die "a connection to the guest" "$(cat /tmp/talk.log)"
	# The guest is slow: this is much for it.
	: >/tmp/ping.log
	part traffic
	ip netns exec right ping -D -i 0.2 "$LEFT" >>/tmp/ping.log 2>&1 &
	PINGER=$!
	sleep 1
}

traffic_survives() {
	sleep 1
	kill -INT "$PINGER"
	wait "$PINGER"
	ends_talking "$TALKER" /tmp/talk.log
	match "$(tail -n 2 /tmp/ping.log)" "*packets transmitted*" "ping ran all the time"
	echo "# ping: $(grep transmitted /tmp/ping.log)"
	echo "# the longest time without an answer: $(longest_gaps)"
}

# swallows LOG SECONDS: a server takes what comes over each connection for so long, or until its end. It tells how
# much that is so far, and at the end how much a second it was, in KiB. SWALLOWER is its process.
swallows() {
	cat >/tmp/swallows.py <<-'PYTHON'
		import socket, sys, time
		server = socket.create_server(("", 9))
		print("listens", flush=True)
		while True:
		    wire = server.accept()[0]
		    # Closed at once, whether the other end hears of it or not.
		    wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1] + [0] * 7))
		    begun = told = time.monotonic()
		    total = 0
		    while (left := begun + float(sys.argv[1]) - time.monotonic()) > 0:
		        wire.settimeout(left)
		        try:
		            data = wire.recv(1 << 20)
		        except OSError:
		            break
		        if not data:
		            break
		        total += len(data)
		        if time.monotonic() - told > 1:
		            told = time.monotonic()
		            print(total, flush=True)
		    print("rate", round(total / 1024 / (time.monotonic() - begun)), flush=True)
		    wire.close()
	PYTHON
	ip netns exec right python3 /tmp/swallows.py "$2" >"$1" 2>&1 &
	local pid=$!
	run_ok wait_for "$SOON" grep -q listens "$1"
	SWALLOWER=$pid
}

# neighbour: RIGHT_DEV is the interface in the container right, STATION its address
neighbour() {
	RIGHT_DEV=$(ip -n right -j link show | jq -r '.[] | select(.ifname != "lo").ifname')
	STATION=$(ip -n right -j link show dev "$RIGHT_DEV" | jq -r '.[0].address')
}

# floods_with FRAMES ADDRESS MAC [NANOSECONDS]: what the neighbour sends there, so far apart or as fast as it can, as soon
# as /proc/net/pktgen/pgctrl in its container is told to start; 0 until it is told to stop
floods_with() {
	modprobe pktgen || die "loading pktgen"
	in_ns right sh -ec "cd /proc/net/pktgen
		echo rem_device_all >kpktgend_0
		echo add_device $RIGHT_DEV >kpktgend_0
		for word in 'count $1' 'pkt_size 60' 'delay ${4-0}' 'dst $2' 'dst_mac $3'; do
			echo \$word >$RIGHT_DEV
		done" || die "the neighbour can send"
}

# uses_rings GUEST FRAMES: both of the guest's rings have passed so many, and not many more
uses_rings() {
	local arrived=0 try
	neighbour
	run_ok guest_run "$1" 300 "measure send $2 32 $RIGHT $STATION"
	# It may be slower than this.
	for ((try = 0; try < 40 && $2 - arrived > 100; try++)); do
		floods_with $(($2 - arrived)) "$LEFT" "$MAC" 500000
		in_ns right sh -c "echo start >/proc/net/pktgen/pgctrl"
		sleep 1
		arrived=$(guest_run "$1" 60 "cat /sys/class/net/eth0/statistics/rx_packets") || die "the guest counts what it receives"
	done
	run_ok test "$arrived" -gt $(($2 - 1000))
}

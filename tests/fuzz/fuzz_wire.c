/* SPDX-License-Identifier: Apache-2.0 */
/* The dispatch of requests over a volume in a temporary directory. An input is a sequence of
 * records: a length byte pair, then a struct wire_request (short ones are filled with zeroes) and
 * its payload. A session lasts for one input. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "danaus/shm/dispatch.h"
#include "tests/lib/service_fixture.h"

#define FILE_MAX (1u << 20) /* of what an input may fill */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct service_fixture fixture;

static void stop(void)
{
	service_fixture_stop(&fixture);
}

static void one_call(struct session *session, struct known_identity *known, const uint8_t *data,
		     size_t size, char *payload)
{
	struct wire_request request = {0};
	size_t head = size < sizeof(request) ? size : sizeof(request);
	struct call call;

	memcpy(&request, data, head);
	memset(payload, 0, 4096);
	memcpy(payload, data + head, size - head);
	/* what only a real thread has, and what would fill the disk */
	request.version = WIRE_VERSION;
	request.tid = getpid();
	request.fsize_limit = FILE_MAX;
	if (request.op == WIRE_ALLOCATE) {
		request.size %= FILE_MAX;
		request.offset %= FILE_MAX;
	}
	if (request.op == WIRE_FSYNC || request.op == WIRE_SYNCFS)
		return; /* the disk's time, and nothing to find */
	call.known = known;
	if (!call_take(&call, session, &request, payload, WIRE_PAYLOAD_MAX)) {
		call.nowait = true;
		call_run(&call);
		if (call.fd_out >= 0)
			close(call.fd_out);
	}
	call_done(&call);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char *payload;
	struct known_identity known = {0};
	struct process *process;
	struct session session;

	if (!payload) {
		if (service_fixture_start(&fixture, NULL) < 0)
			exit(77);
		atexit(stop);
		payload = malloc(WIRE_PAYLOAD_MAX);
	}
	if (process_get(&fixture.container, getpid(), &process) < 0)
		abort();
	session_init(&session, process);
	process_unref(process);
	while (size >= 2) {
		size_t len = data[0] | data[1] << 8;

		data += 2;
		size -= 2;
		len = len < size ? len : size;
		if (len > sizeof(struct wire_request) + 4096)
			len = sizeof(struct wire_request) + 4096;
		one_call(&session, &known, data, len, payload);
		data += len;
		size -= len;
	}
	if (known.cred)
		cred_unref(known.cred);
	session_done(&session);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The attach socket: an input is a sequence of datagrams, each after a length byte and a byte that
 * says whether a descriptor rides along. After each input a well-behaved client is served. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "danaus/base/fd.h"
#include "danaus/base/log.h"
#include "tests/lib/service_fixture.h"
#include "tests/lib/shm_client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct service_fixture fixture;

static void stop(void)
{
	service_fixture_stop(&fixture);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int null = -1, runs;
	struct shm_client client;
	int sock;

	if (null < 0) {
		log_open("fuzz", LOG_ERROR);
		if (service_fixture_start(&fixture, NULL) < 0)
			exit(77);
		atexit(stop);
		null = open("/dev/null", O_RDWR | O_CLOEXEC);
	}
	if (fd_connect_at(AT_FDCWD, fixture.socket, &sock) < 0)
		abort();
	while (size >= 2) {
		size_t len = data[0];
		int with_fd = data[1] & 1;

		data += 2;
		size -= 2;
		len = len < size ? len : size;
		if (fd_send(sock, data, len, &null, with_fd) < 0)
			break;
		data += len;
		size -= len;
	}
	close(sock);
	if (++runs % 64)
		return 0;
	if (shm_client_attach(&client, fixture.socket, 0) < 0 ||
	    shm_client_stat(&client, ".", NULL) < 0)
		abort();
	shm_client_detach(&client);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "danaus/base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

/* A service that is frozen with its container lets nobody in. */
static void a_connection_is_not_waited_for(void **state)
{
	char dir[] = "/tmp/danaus-test-fd-XXXXXX";
	int dirfd, listener, sock[1024], n = 0, r;

	assert_non_null(mkdtemp(dir));
	dirfd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(fd_listen_at(dirfd, "socket", 0600, &listener), 0);
	while (n < 1024 && !(r = fd_connect_at_once(dirfd, "socket", &sock[n])))
		assert_false(fcntl(sock[n++], F_GETFL) & O_NONBLOCK);
	assert_int_equal(r, -EAGAIN);
	while (n)
		close(sock[--n]);
	close(listener);
	assert_int_equal(fd_connect_at_once(dirfd, "socket", &sock[0]), -ECONNREFUSED);
	assert_int_equal(unlinkat(dirfd, "socket", 0), 0);
	assert_int_equal(fd_connect_at_once(dirfd, "socket", &sock[0]), -ENOENT);
	close(dirfd);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(a_connection_is_not_waited_for)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Gives the wrappers the names that programs call: the only symbols this library exports. */
#include "preload/interpose.h"

#define EXPORT __attribute__((visibility("default")))

#define CALL(type, name, parameters, value)  EXPORT type name parameters;
#define POINT				     CALL
#define PLAIN(type, name, parameters, value) EXPORT type name parameters;
#define ALSO(name, of)
#define OWN(name)
#include "preload/interpose.def"
#undef CALL
#undef POINT
#undef PLAIN
#undef ALSO

#define CALL(type, name, parameters, value)                                                        \
	type name parameters                                                                       \
	{                                                                                          \
		return (type)edge(value);                                                          \
	}
#define POINT(type, name, parameters, value) CALL(type, name, parameters, (cancel_point(), value))
#define PLAIN(type, name, parameters, value)                                                       \
	type name parameters                                                                       \
	{                                                                                          \
		return value;                                                                      \
	}
#define ALSO(name, of) EXPORT extern __typeof__(of) name __attribute__((alias(#of)));
#include "preload/interpose.def"

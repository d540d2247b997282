#ifndef CRT_HOST_DEFINES
#define CRT_HOST_DEFINES
#define CUDARTAPI
#define CUDARTAPI_CDECL
#define CUDAAPI_DEVICE
#define __host__
#define __device__
#define __device_builtin__
#define __device_builtin_texture_type__
#define __device_builtin_surface_type__
#define __cudart_builtin__
#define __builtin_align__(a) __attribute__((aligned(a)))
#define __align__(a) __attribute__((aligned(a)))
#define __specialization_static
#endif

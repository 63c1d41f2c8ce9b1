/* The one header that bindgen reads. */
#include <clamav.h>
#include "shim.h"

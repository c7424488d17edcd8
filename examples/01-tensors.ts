// Tensors: make them, compute with them, differentiate, and let go of their memory.
import { Generator, linspace, liveTensors, ops, randn, scope, tensor } from 'srum/torch';

const a = tensor([
  [1, 2],
  [3, 4],
]);
console.log('a @ a =', a.matmul(a).toArray());

// Every operator of PyTorch is there under its name in camelCase; numbers are scalars.
console.log('softmax =', ops.softmax(a, -1).toArray());

// Randomness comes from a generator with a seed: the numbers are PyTorch's own.
const noise = randn([3], { generator: new Generator(42) });
console.log('noise =', noise.toArray());

// Gradients: the slope of x^3 is 3 x^2.
const x = linspace(0, 2, 3).requiresGrad_();
x.pow(3).sum().backward();
console.log('slope of x^3 at 0, 1, 2 =', x.grad?.toArray());

// A scope frees everything made inside it, except what it returns.
const before = liveTensors();
const norm = scope(() => {
  let sum = tensor(0);
  for (let i = 0; i < 1000; i++) sum = sum.add(noise.mul(noise).sum());
  return sum;
});
console.log('kept by the scope:', liveTensors() - before, 'tensor, value', norm.item().toFixed(2));

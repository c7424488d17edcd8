import { expectError, expectType } from 'tsd';
import { ConfigError, nn, torch } from '../../dist/lib/index.js';
import { ops, type Tensor, type TorchErrorCode, tensor } from '../../dist/lib/torch/index.js';

const x = tensor([[1, 2]]);
expectType<Tensor>(x);
expectType<readonly number[]>(x.shape);
expectType<number>(x.item());
expectType<Tensor | null>(x.grad);

// Hand-written and generated operators, both spellings of defaults.
expectType<Tensor>(x.add(2).mul(x).softmax(-1));
expectType<Tensor>(x.sum([0], { keepdim: true }));
expectType<Tensor>(x.sum([0], true, { dtype: 'float64' }));
expectType<[Tensor, Tensor]>(x.topk(1));
expectType<Tensor[]>(x.split(1, 0));
expectType<Tensor>(ops.cat([x, x], 1));
expectType<Tensor>(ops.conv2d(x, x, null, [1, 1]));
expectType<boolean>(ops.isFloatingPoint(x));
expectType<Tensor>(torch.scope(() => x.add(1)));
expectType<(Tensor | null)[]>(torch.grad([x], [x]));
expectType<IterableIterator<[string, Tensor]>>(new nn.Linear(1, 1).namedParameters());

expectError(x.add('2'));
expectError(x.to('float7').shape.push(1));
expectError(ops.cat(x));
expectError(ops.softmax(x));
expectError(x.sum([0], { keepDimension: true }));
expectError(torch.zeros([2], { dtype: 'float' }));
expectError(new ConfigError(1, 2));

const code: TorchErrorCode = 'ERR_SHAPE';
expectType<'ERR_SHAPE'>(code);
